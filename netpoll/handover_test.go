package netpoll

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"sluice/wsproto"
)

// httpServer serves what an engine hands over.
type httpServer struct {
	conns chan net.Conn
	http.Server
}

func (h *httpServer) Accept() (net.Conn, error) {
	c, ok := <-h.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (h *httpServer) Close() error   { return nil }
func (h *httpServer) Addr() net.Addr { return &net.TCPAddr{} }

// serveHTTP starts a server whose plain requests go to handler; it may use the engine once this has
// returned.
func serveHTTP(t *testing.T, change func(o *Options, h *testHandler), handler func(s *server, w http.ResponseWriter, r *http.Request)) *server {
	h := &httpServer{conns: make(chan net.Conn)}
	var s *server
	var ready sync.WaitGroup
	ready.Add(1)
	h.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ready.Wait()
		handler(s, w, r)
	})
	h.ConnState = func(c net.Conn, state http.ConnState) {
		if i, ok := c.(interface{ Idle() }); ok && state == http.StateIdle {
			i.Idle()
		}
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = h.Serve(h) }()
	t.Cleanup(func() { close(h.conns); <-done; _ = h.Server.Close() })
	s = serve(t, func(o *Options, th *testHandler) {
		o.HTTP = func(c net.Conn) { h.conns <- c }
		if change != nil {
			change(o, th)
		}
	})
	ready.Done()
	return s
}

func describe(_ *server, w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	_, _ = fmt.Fprintf(w, "%s %s %d %.10s %s", r.Method, r.URL, len(body), body, r.RemoteAddr)
}

func (c *client) wantResponse(want string) {
	c.t.Helper()
	r, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil || string(body) != want+" "+c.LocalAddr().String() {
		c.t.Fatalf("got %q and %v, want %q", body, err, want)
	}
}

// TestHandover sends pipelined requests, bodies included, in pieces of every kind.
func TestHandover(t *testing.T) {
	large := repeat("y", 200<<10)
	requests := "POST /one HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello" +
		"GET /two?q=1 HTTP/1.1\r\nHost: x\r\n\r\n" +
		fmt.Sprintf("PUT /three HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(large), large)
	for _, piece := range []int{1, 7, 60, 66, 1000, 1 << 20} {
		t.Run(fmt.Sprint(piece), func(t *testing.T) {
			s := serveHTTP(t, nil, describe)
			c := dial(t, s.Addr())
			go func() {
				for b := []byte(requests); len(b) > 0; {
					n := min(piece, len(b))
					if len(b) < 100<<10 {
						n = len(b)
					}
					if _, err := c.Write(b[:n]); err != nil {
						return
					}
					b = b[n:]
				}
			}()
			c.wantResponse("POST /one 5 hello")
			c.wantResponse("GET /two?q=1 0 ")
			c.wantResponse(fmt.Sprintf("PUT /three %d %.10s", len(large), large))
			if n := s.m.Handovers.Load(); n != 1 {
				t.Errorf("%d handovers, want 1", n)
			}
			if n := s.m.OpenAll.Load(); n != 1 {
				t.Errorf("%d connections open, want 1", n)
			}
			_ = c.Close()
			s.until("net/http has closed it", func() bool { return s.m.OpenAll.Load() == 0 })
		})
	}
}

// adopt returns an HTTP handler that gives upgrade requests back to the event loops and describes
// others. The result of each is sent to adopted.
func adopt(adopted chan<- error) func(*server, http.ResponseWriter, *http.Request) {
	return func(s *server, w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			describe(s, w, r)
			return
		}
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			adopted <- err
			return
		}
		var head bytes.Buffer
		fmt.Fprintf(&head, "%s %s HTTP/1.1\r\nHost: %s\r\n", r.Method, r.RequestURI, r.Host)
		_ = r.Header.Write(&head)
		head.WriteString("\r\n")
		_, _ = io.CopyN(&head, rw, int64(rw.Reader.Buffered()))
		adopted <- s.Adopt(c, head.Bytes())
	}
}

// TestAdopt upgrades a connection whose first requests were plain HTTP, with frames right behind
// the head.
func TestAdopt(t *testing.T) {
	adopted := make(chan error, 1)
	s := serveHTTP(t, func(o *Options, _ *testHandler) { o.Loops = 2 }, adopt(adopted))
	for i := range 5 {
		c := dial(t, s.Addr())
		c.send([]byte("GET /page HTTP/1.1\r\nHost: x\r\n\r\n"))
		c.wantResponse("GET /page 0 ")
		c.send([]byte("GET /more HTTP/1.1\r\nHost: x\r\n\r\n"))
		c.wantResponse("GET /more 0 ")
		early := masked(wsproto.OpText, "early")
		c.send(append([]byte(upgradeHead("/ws", "adopted")), early[:4+i]...))
		if err := await(t, adopted, "Adopt"); err != nil {
			t.Fatal(err)
		}
		c.upgraded()
		sc := await(t, s.h.opened, "Open")
		if got := s.session(sc); got != "adopted" {
			t.Errorf("header seen by Open: %q", got)
		}
		c.send(early[4+i:])
		c.wantText("early")
		s.on(sc.Loop().Index(), func(*Loop) {
			if got := sc.RemoteAddr(); got != c.LocalAddr().String() {
				t.Errorf("remote address %q, want %q", got, c.LocalAddr())
			}
		})
		c.send(closeFrame(1000))
		c.wantClose(1000)
		c.wantEOF()
		await(t, s.h.closed, "Closed")
	}
	s.sync()
	if n, m := s.m.Adopted.Load(), s.m.OpenAll.Load(); n != 5 || m != 0 {
		t.Errorf("%d adopted, %d left; want 5 and 0", n, m)
	}
}

func TestAdoptRefuses(t *testing.T) {
	s := serve(t, nil)
	a, b := net.Pipe()
	if err := s.Adopt(a, nil); err == nil {
		t.Error("a pipe was adopted")
	}
	if _, err := b.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the pipe is not closed: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = s.Stop(ctx)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c := dial(t, ln.Addr())
	if err := s.Adopt(c.Conn, nil); err == nil {
		t.Error("adopted after Stop")
	}
}

func TestStartErrors(t *testing.T) {
	h := newTestHandler(1)
	for _, o := range []Options{
		{Addr: "127.0.0.1:0"},
		{Addr: "nonsense", Handler: h},
		{Addr: "127.0.0.1:0", Handler: h, Loops: maxLoops + 1},
		{Addr: "127.0.0.1:0", Handler: h, Limits: Limits{MaxHead: -1}},
		{Addr: "127.0.0.1:0", Handler: h, Limits: Limits{OutboxBytes: 1 << 31}},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("New accepts %+v", o)
		}
	}
	s := serve(t, nil)
	for _, addr := range []string{s.Addr().String(), "192.0.2.1:0"} {
		e, err := New(Options{Addr: addr, Handler: h})
		if err != nil {
			t.Fatal(err)
		}
		err = e.Start()
		if err == nil {
			t.Errorf("two engines listen on %s", addr)
		} else {
			t.Log(err)
		}
		if err := e.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}
	if err := s.Start(); err == nil {
		t.Error("an engine starts twice")
	}
}

// TestAllAddresses listens without a host and is reached over IPv4 and IPv6.
func TestAllAddresses(t *testing.T) {
	s := serve(t, func(o *Options, _ *testHandler) { o.Addr = ":0" })
	port := s.Addr().(*net.TCPAddr).Port
	for _, ip := range []string{"127.0.0.1", "::1"} {
		c, err := net.Dial("tcp", net.JoinHostPort(ip, fmt.Sprint(port)))
		if err != nil {
			t.Logf("%s: %v", ip, err)
			if ip == "127.0.0.1" {
				t.Error("not reached")
			}
			continue
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		cl := &client{c, t, bufio.NewReader(c)}
		cl.send([]byte(upgradeHead("/ws", "")))
		cl.upgraded()
	}
}
