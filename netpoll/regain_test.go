package netpoll

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"sluice/internal/testkit"
)

// page is a request that the loops leave to net/http: its body is chunked.
const page = "POST /page HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"

// regaining starts an engine whose net/http answers requests, those for /slow when slow yields, and
// one at which its connections arrive. connect connects to the first.
func regaining(t *testing.T, secure bool, slow chan struct{}) (from, to *server, connect func() *client, give func([]Departed)) {
	t.Helper()
	options := func(*Options, *testHandler) {}
	if secure {
		options = withTLS(options)
	}
	answer := func(_ *server, w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path == "/slow" {
			<-slow
		}
		_, _ = fmt.Fprintf(w, "%s %s", r.URL.Path, body)
	}
	from = serveHTTP(t, options, answer)
	to = serveHTTP(t, options, answer)
	give, _ = arriving(t, to)
	return from, to, func() *client {
		t.Helper()
		if !secure {
			return dial(t, from.Addr())
		}
		c, _ := dialTLS(t, from.Addr(), clientTLS(tls.VersionTLS13))
		return c
	}, give
}

// awaitArrivals waits until n connections have arrived.
func (s *server) awaitArrivals(n int) {
	s.t.Helper()
	s.until(fmt.Sprintf("%d connections arrive", n), func() bool { return s.m.Arrived.Load() == uint64(n) })
}

// wantPage reads a response.
func (c *client) wantPage(want string) {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatalf("%q does not come: %v", want, err)
	}
	if text, err := io.ReadAll(resp.Body); err != nil || string(text) != want {
		c.t.Fatalf("got %q, %v, want %q", text, err, want)
	}
}

// Connections that net/http has served leave with those of the loops, when they are at rest, and so
// do those whose request is answered later.
func TestConnectionsOfNetHTTPDepart(t *testing.T) {
	for name, secure := range map[string]bool{"plaintext": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			slow := make(chan struct{})
			from, to, connect, give := regaining(t, secure, slow)
			idle, busy := connect(), connect()
			for range 3 {
				idle.send([]byte(page))
				idle.wantPage("/page ab")
			}
			busy.send([]byte(strings.Replace(page, "/page", "/slow", 1)))
			from.until("net/http has both", func() bool { return from.m.Handovers.Load() == 2 })
			Leave(from.Engine, secure, give)
			to.awaitArrivals(1)
			idle.send([]byte(page))
			idle.wantPage("/page ab")
			close(slow)
			busy.wantPage("/slow ab")
			to.awaitArrivals(2)
			busy.send([]byte(page))
			busy.wantPage("/page ab")
			stopped := make(chan error, 1)
			go func() { stopped <- from.Stop(context.Background()) }()
			if err := testkit.Await(t, stopped, "the end of the drain"); err != nil {
				t.Error(err)
			}
			for _, c := range []*client{idle, busy} {
				c.send([]byte(page))
				c.wantPage("/page ab")
			}
			if d, a := from.m.Departed.Load(), to.m.Arrived.Load(); d != 2 || a != 2 || from.m.OpenAll.Load() != 0 || to.m.OpenAll.Load() != 2 {
				t.Errorf("%d departed, %d arrived", d, a)
			}
		})
	}
}

// Whatever net/http has read of the next request stays with it: cut anywhere, pipelined requests
// are answered once each, and in order.
func TestRequestsOfConnectionsThatDepart(t *testing.T) {
	second := strings.Replace(page, "/page", "/second", 1)
	for cut := 0; cut <= len(second); cut++ {
		from, to, connect, give := regaining(t, false, nil)
		c := connect()
		c.send([]byte(page + second[:cut]))
		c.wantPage("/page ab")
		Leave(from.Engine, false, give)
		c.send([]byte(second[cut:]))
		c.wantPage("/second ab")
		to.awaitArrivals(1)
		c.send([]byte(page))
		c.wantPage("/page ab")
		_ = c.Close()
	}
}

// At any moment of a request there may be an upgrade: each request gets its response, and no
// connection is closed.
func TestConnectionsOfNetHTTPDepartUnderLoad(t *testing.T) {
	from, to, connect, give := regaining(t, false, nil)
	const clients = 20
	served, ended, end := make(chan struct{}, 1000), make(chan error, clients), make(chan struct{})
	for range clients {
		c := connect()
		go func() {
			ended <- func() error {
				for i := 0; ; i++ {
					want := fmt.Sprintf("/p%d ab", i)
					if _, err := io.WriteString(c, strings.Replace(page, "/page", fmt.Sprintf("/p%d", i), 1)); err != nil {
						return err
					}
					resp, err := http.ReadResponse(c.r, nil)
					if err != nil {
						return err
					}
					if text, err := io.ReadAll(resp.Body); err != nil || string(text) != want {
						return fmt.Errorf("got %q, %w, want %q", text, err, want)
					}
					select {
					case <-end:
						return nil
					case served <- struct{}{}:
					default:
					}
				}
			}()
		}()
	}
	for range 100 {
		testkit.Await(t, served, "a response")
	}
	from.until("net/http has all", func() bool { return from.m.Handovers.Load() == clients })
	Leave(from.Engine, false, give)
	to.awaitArrivals(clients)
	close(end)
	for range clients {
		if err := testkit.Await(t, ended, "the end of a client"); err != nil {
			t.Error(err)
		}
	}
}
