//go:build !invariants

package httpedge

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"sluice/fanout"
	"sluice/internal/httpapi"
	"sluice/internal/owner"
	"sluice/internal/res"
	"sluice/internal/session"
	"sluice/netpoll"
	"sluice/wsproto"
)

// looped is an HTTP side on one real event loop, with requests handled by a function of the test.
type looped struct {
	*Edge
	*netpoll.Engine
	faults  *owner.Faults
	loop    *Loop
	mailbox *owner.Mailbox[func()]
	request func(l *Loop, c *netpoll.Conn, head *wsproto.Head) bool
	bombs   atomic.Int32 // how many connection IDs of requests are to panic
}

func startLooped(t *testing.T, request func(l *Loop, c *netpoll.Conn, head *wsproto.Head) bool) *looped {
	t.Helper()
	f := &looped{request: request}
	log := slog.New(slog.DiscardHandler)
	f.faults = owner.NewFaults(owner.SystemClock(), log)
	f.Edge = New(Options{WSPath: "/ws", Loops: 1, Heartbeat: time.Minute, Gateway: Gateway{IDs: testIDs{f}}, Clock: owner.SystemClock(), Faults: f.faults, Log: log})
	var err error
	f.Engine, err = netpoll.New(netpoll.Options{Addr: "127.0.0.1:0", Loops: 1, Handler: testLoops{f}, Faults: f.faults, Log: log,
		AfterPanic: func(*netpoll.Loop) { f.loop.env.Mend() }})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Engine.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.Engine.Close()
		f.Halted()
	})
	return f
}

// testIDs are the IDs of looped.
type testIDs struct{ f *looped }

func (i testIDs) Conn(h netpoll.Handle) string { return fmt.Sprint("c", h) }

func (i testIDs) Request(_ int, n uint64) string {
	if i.f.bombs.Add(-1) >= 0 {
		panic("bomb: connection ID")
	}
	return fmt.Sprint("r", n)
}

// testLoops is the handler of looped.
type testLoops struct{ f *looped }

func (h testLoops) Start(n *netpoll.Loop) {
	f := h.f
	f.mailbox = owner.NewMailbox[func()](n.Wake)
	env := &session.Env{Parser: new(res.Parser), Metrics: new(session.Metrics), Faults: f.faults, Now: func() time.Duration { return 0 }}
	env.Hub = fanout.NewHub(nil, fanout.Framers{}, n.Arena(), new(fanout.Metrics))
	f.loop = f.NewLoop(n, env, f.mailbox.Put, nil)
}

func (h testLoops) Upgrade(*netpoll.Conn, *wsproto.Head) int { return http.StatusForbidden }
func (h testLoops) Open(*netpoll.Conn, *wsproto.Head)        {}
func (h testLoops) Message(*netpoll.Conn, []byte)            {}
func (h testLoops) Stream(*netpoll.Conn, *wsproto.Head) bool { return false }
func (h testLoops) Lagging(*netpoll.Conn)                    {}
func (h testLoops) Closed(c *netpoll.Conn)                   { c.Session.(interface{ Closed() }).Closed() }
func (h testLoops) Iterate(*netpoll.Loop)                    { h.f.mailbox.Drain(0, func(f func()) { f() }) }
func (h testLoops) Request(c *netpoll.Conn, head *wsproto.Head, _ []byte) bool {
	return h.f.request(h.f.loop, c, head)
}

// on runs f on the loop and waits for it.
func (f *looped) on(do func(l *Loop)) {
	done := make(chan struct{})
	f.mailbox.Put(func() {
		defer close(done)
		do(f.loop)
	})
	<-done
}

// A long response whose encoding panics on its goroutine becomes a 500.
func TestPanicOfAnEncoding(t *testing.T) {
	works := map[string]func(*httpapi.Response){
		"/encode": func(*httpapi.Response) { panic("bomb: encoding") },
		"/good":   func(a *httpapi.Response) { a.Status, a.Body = http.StatusOK, []byte("good") },
	}
	f := startLooped(t, func(l *Loop, c *netpoll.Conn, head *wsproto.Head) bool {
		p := &plainRequest{l: l, conn: c}
		readQuery(&p.query, head, nil)
		c.Session = p
		p.number = l.requests.number()
		p.session = session.NewHTTP(l.env, p, "r")
		l.requests.add(p.number, p.session)
		p.later(works[p.query.Path])
		return true
	})
	get := func(path string) (int, string) {
		resp, err := http.Get("http://" + f.Engine.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	if code, body := get("/encode"); code != http.StatusInternalServerError || f.faults.Count(owner.Encoder) != 1 {
		t.Errorf("status %d, %q, %d panics", code, body, f.faults.Count(owner.Encoder))
	}
	if code, body := get("/good"); code != http.StatusOK || body != "good" {
		t.Errorf("status %d, %q", code, body)
	}
}

// A request on net/http whose session cannot be made gets an error, and does not wait for ever.
func TestPanicOfAnExchange(t *testing.T) {
	f := startLooped(t, nil)
	q := &backend{f.Edge}
	f.bombs.Store(1)
	if _, _, err := q.Get(httptest.NewRequest(http.MethodGet, "/api/a", nil), "a"); err == nil || err.Code != res.CodeInternalError {
		t.Errorf("got %v", err)
	}
	if n := f.faults.Count(owner.Loop); n != 1 {
		t.Errorf("%d panics", n)
	}
}

// While no loop has started, requests on net/http get 503.
func TestNoLoopHasStarted(t *testing.T) {
	f := newHTTPFixture(t, func(o *Options) { o.Loops = 2 })
	c := f.dial(t)
	for _, request := range []string{
		"GET /resources/a HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET /resources/a HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n",
		"POST /resources/a/b HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
	} {
		if resp, body := c.ask(request); resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%q: status %d, %s", request, resp.StatusCode, body)
		}
	}
}

// The number of the next loop overflows in time.
func TestLoopsRoundRobin(t *testing.T) {
	e := New(Options{Loops: 3, Log: slog.New(slog.DiscardHandler)})
	loops := []*Loop{{}, {}, {}}
	for i, l := range loops {
		e.loops[i].Store(l)
	}
	e.next.Store(1<<31 - 2)
	seen := map[*Loop]int{}
	for range 6 {
		seen[e.someLoop()]++
	}
	e.next.Store(1<<32 - 2)
	for range 6 {
		seen[e.someLoop()]++
	}
	e.loops[0].Store(nil)
	e.loops[1].Store(nil)
	if len(seen) != 3 || e.someLoop() != loops[2] || e.someLoop() != loops[2] {
		t.Errorf("%d loops were used", len(seen))
	}
}

// A stream whose heartbeat panics is the current session, and its next heartbeat is scheduled.
func TestPanicOfAHeartbeat(t *testing.T) {
	f := startLooped(t, nil)
	f.on(func(l *Loop) {
		s := &stream{loop: l} // without a connection
		s.session = session.NewStream(l.env, s, nil, "c", false)
		func() {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			s.Expire(l.net.Now())
		}()
		if !s.timer.Armed() || l.env.Current() != s.session {
			t.Errorf("scheduled %v, current session %v", s.timer.Armed(), l.env.Current() == s.session)
		}
		l.env.Enter(nil)
		l.net.Wheel().Cancel(&s.timer)
	})
}

// The connection of a request whose handler panics on net/http is closed.
func TestPanicOfAHandler(t *testing.T) {
	faults := owner.NewFaults(owner.SystemClock(), slog.New(slog.DiscardHandler))
	f := newHTTPFixture(t, func(o *Options) {
		o.Faults = faults
		o.Pages = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("bomb: page") })
	})
	c := f.dial(t)
	if _, err := io.WriteString(c, "GET /page HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(c.r); len(b) > 0 || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
	if n := faults.Count(owner.HTTP); n != 1 {
		t.Errorf("%d panics", n)
	}
	if resp, _ := f.dial(t).ask("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"); resp.StatusCode != http.StatusOK {
		t.Errorf("status %d", resp.StatusCode)
	}
}
