//go:build linux

package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/internal/restest"
	"sluice/internal/testkit"
)

// Upgrades follow each other while events come, clients subscribe, unsubscribe and call, one does
// not read, new ones connect, and requests follow each other on kept HTTP connections. Pairs of
// models refer to each other. No client is closed or refused, no custom event is lost or comes
// twice, and access is asked again for no client that asks for nothing.
func TestUpgradesUnderLoad(t *testing.T) {
	t.Run("plain", func(t *testing.T) {
		upgrades, lags, clients := 2, 1, 30
		if *long {
			upgrades, lags, clients = 10, 10, 400
		}
		underLoad(t, newWorld(t, "loops: 2\n"), upgrades, lags, clients)
	})
	t.Run("TLS", func(t *testing.T) {
		w, _ := secureWorld(t, tls.VersionTLS13)
		upgrades, lags, clients := 1, 0, 12
		if *long {
			upgrades, lags, clients, w.every = 10, 10, 1000, 20*time.Millisecond
		}
		underLoad(t, w, upgrades, lags, clients)
	})
}

// bigRID is a resource whose changes are large, in bytes.
const (
	bigRID   = "test.big"
	bigValue = 100 << 10
)

// underLoad upgrades a gateway several times. During the first of them (lags), one client does not
// read.
func underLoad(t *testing.T, w *world, upgrades, lags, clients int) {
	for i := range 6 {
		w.store.Set(fmt.Sprintf("test.m%d", i), map[string]any{"a": float64(i), "next": map[string]any{"rid": fmt.Sprintf("test.m%d", i^1)}})
	}
	w.store.Set(bigRID, map[string]any{"n": 0.0})
	w.every = max(w.every, 2*time.Millisecond)
	w.begin()
	all := rids()
	w.fill(clients)
	busy := w.clients[:clients/3] // the others only listen
	quiet := map[string]int{}
	for _, f := range w.clients[len(busy):] {
		quiet[f.cid] = w.askedBy(f.cid)
	}
	reader := w.bigClient("reader", nil)
	var reading sync.RWMutex // locked: the slow reader does not read
	slow := w.bigClient("slow", func() {
		reading.RLock()
		defer reading.RUnlock()
	})
	if err := slow.Shrink(); err != nil {
		t.Fatal(err)
	}
	end := make(chan struct{})
	var ended sync.WaitGroup
	defer ended.Wait()
	stop := sync.OnceFunc(func() { close(end) })
	defer stop()
	each := func(what string, f func() (int, error)) {
		ended.Go(func() {
			for {
				select {
				case <-end:
					return
				default:
				}
				if status, err := f(); status != http.StatusOK || err != nil {
					t.Errorf("%s: status %d, %v", what, status, err)
					return
				}
			}
		})
	}
	connect := w.l.client
	if w.secure != nil {
		connect = func() *httpClient {
			return w.l.clientOver(func() (net.Conn, error) { return tls.Dial("tcp", w.l.addr, w.secure) })
		}
	}
	for range 4 {
		c := connect()
		each("a kept connection", func() (int, error) { return c.get("/api/test/m0") })
	}
	each("a new connection", w.healthy)
	for round := range upgrades {
		readOn := func() {}
		if round < lags {
			reading.Lock()
			readOn = reading.Unlock
		}
		for n := 0; round < lags && !w.lagging(); n++ {
			if n == 500 {
				t.Fatal("a client that does not read is no slow consumer")
			}
			w.grow(reader, 4)
		}
		w.grow(reader, 1)
		type result struct {
			code           int
			stdout, stderr string
		}
		done := make(chan result, 1)
		go func() {
			var r result
			r.code, r.stdout, r.stderr = w.l.upgrade()
			done <- r
		}()
		for i := 0; ; i++ {
			f := busy[i%len(busy)]
			w.until(f, "all is answered", func() bool { return f.view.Pending() == 0 })
			other := all[(i/len(busy)*7+i)%len(all)]
			if !f.direct(other) {
				f.ask(t, "subscribe."+other, "")
				f.ask(t, "unsubscribe."+other, "")
			}
			f.ask(t, "call."+f.rids[0]+".set", "")
			select {
			case r := <-done:
				if want := fmt.Sprintf("%d WebSockets have moved", len(w.clients)+2); r.code != 0 || !strings.Contains(r.stdout, want) {
					readOn()
					t.Fatalf("exit code %d, not %q\n%s%s", r.code, want, r.stdout, r.stderr)
				}
			default:
				continue
			}
			break
		}
		w.l.until("msg=stopped", round+1)
		readOn()
		w.grow(reader, 1)
		w.newest(slow)
		for _, f := range w.clients {
			w.fold(f)
		}
	}
	stop()
	ended.Wait()
	for _, f := range busy {
		w.until(f, "all is answered", func() bool { return f.view.Pending() == 0 })
	}
	w.rest()
	for cid, n := range quiet {
		if again := w.askedBy(cid) - n; again != 0 {
			t.Errorf("%d access requests for a client that asks for nothing", again)
		}
	}
	testkit.Until(t, "all processes but the last have ended", func() bool { return len(w.l.pids()) == upgrades })
}

// bigClient opens a WebSocket and subscribes to the large resource.
func (w *world) bigClient(name string, arrived func()) *restest.Client {
	w.t.Helper()
	c, err := w.dial(name, arrived)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(c.Cut)
	if err := c.Send(`{"id":1,"method":"subscribe.` + bigRID + `"}`); err != nil {
		w.t.Fatal(err)
	}
	w.newest(c)
	return c
}

// grow makes large changes of a resource, each when a client that reads has the one before.
func (w *world) grow(reader *restest.Client, changes int) {
	w.t.Helper()
	for range changes {
		w.mu.Lock()
		w.values++
		w.bigN = w.values
		payload := w.store.Change(bigRID, map[string]any{"n": float64(w.bigN), "text": fmt.Sprint(w.bigN, strings.Repeat("x", bigValue))})
		err := w.nc.Publish("event."+bigRID+".change", []byte(payload))
		w.mu.Unlock()
		if err != nil {
			w.t.Fatal(err)
		}
		w.newest(reader)
	}
}

// newest waits until a client has the newest large change.
func (w *world) newest(c *restest.Client) {
	w.t.Helper()
	want := fmt.Sprintf(`"n":%d`, w.bigN)
	testkit.Until(w.t, "client "+c.Name+" has the newest large change", func() bool {
		for m, ok := c.Next(); ok; m, ok = c.Next() {
			if strings.Contains(m, want+",") || strings.Contains(m, want+"}") {
				return true
			}
		}
		if code, closed := c.Closed(); closed {
			w.t.Fatalf("client %s is closed with %d", c.Name, code)
		}
		return false
	})
}

// lagging reports whether a client does not take what the gateway sends.
func (w *world) lagging() bool {
	w.t.Helper()
	return w.measures(`sluice_connections_lagging [1-9]`)
}

// measures reports whether a line of the metrics begins with what a regular expression says.
func (w *world) measures(line string) bool {
	w.t.Helper()
	resp, err := http.Get("http://" + value(w.l.log(), `msg="metrics server listening" addr=`) + "/metrics")
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return regexp.MustCompile("(?m)^" + line).Match(text)
}

// healthy returns the status of a health check on a connection of its own.
func (w *world) healthy() (int, error) {
	if w.secure == nil {
		return w.l.healthy()
	}
	c := http.Client{Transport: &http.Transport{TLSClientConfig: w.secure, DisableKeepAlives: true}, Timeout: testkit.Patience}
	resp, err := c.Get("https://" + w.l.addr + "/healthz")
	if err != nil {
		return 0, err
	}
	_ = resp.Body.Close()
	return resp.StatusCode, nil
}

// askedBy returns how many access requests there were for a client.
func (w *world) askedBy(cid string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asks[cid]
}
