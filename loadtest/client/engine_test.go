//go:build linux

package client

import (
	"bufio"
	"net"
	"net/http"
	"runtime"
	"testing"
	"time"

	"sluice/internal/testkit"
	"sluice/loadtest/floor"
)

// run starts a floor and clients of it. send publishes events on a topic.
func run(t *testing.T, cfg Config, batched bool) (e *Engine, send func(topic, events int)) {
	t.Helper()
	s, err := floor.Listen(floor.Options{Batched: batched})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.Serve() }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	cfg.Protocol, cfg.Addr = ProtocolFloor, s.Addr
	e, err = New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	feed, err := net.Dial("tcp", s.FeedAddr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = feed.Close() })
	return e, func(topic, events int) {
		t.Helper()
		var b []byte
		for range events {
			b = floor.AppendLine(b, topic, AppendEvent(nil, Now(), 100))
		}
		if _, err := feed.Write(b); err != nil {
			t.Fatal(err)
		}
	}
}

// until samples until ok reports true.
func until(t *testing.T, e *Engine, what string, ok func(c Counters) bool) Sample {
	t.Helper()
	var all Sample
	for end := time.Now().Add(20 * time.Second); ; {
		s, err := e.Sample(true)
		if err != nil {
			t.Fatal(err)
		}
		hists := all.Hists
		all = Sample{Hists: hists}
		all.Add(s)
		if ok(s.Count) {
			return all
		}
		if time.Now().After(end) {
			t.Fatalf("no %s: %+v", what, s.Count)
		}
		runtime.Gosched()
	}
}

func TestEngineDeliversToAll(t *testing.T) {
	for _, batched := range []bool{false, true} {
		const clients, events = 40, 25
		e, send := run(t, Config{Count: clients, Topics: 4, PerClient: 2, Threads: 2}, batched)
		if err := e.Connect(); err != nil {
			t.Fatal(err)
		}
		s := until(t, e, "connections", func(c Counters) bool { return c.Ready == clients })
		if n := count(s, Connect); n != clients {
			t.Errorf("%d connect latencies", n)
		}
		if err := e.Begin(Now()); err != nil {
			t.Fatal(err)
		}
		for topic := range 4 {
			send(topic, events)
		}
		s = until(t, e, "deliveries", func(c Counters) bool { return c.Deliveries >= clients*2*events })
		if s.Count.Fewest != 2*events || s.Count.Most != 2*events || s.Count.Stale+s.Count.Disorder+s.Count.Strange != 0 {
			t.Errorf("batched %v: %+v", batched, s.Count)
		}
		if n := count(s, Delivery); n != clients*2*events {
			t.Errorf("%d delivery latencies", n)
		}
	}
}

// A client with more subscriptions than may be in flight while it opens gets all of them.
func TestManySubscriptions(t *testing.T) {
	for _, topics := range []int{openWindow, openWindow + 1, 2*openWindow + 51} {
		e, send := run(t, Config{Count: 3, Topics: topics, PerClient: topics, Threads: 2}, false)
		if err := e.Connect(); err != nil {
			t.Fatal(err)
		}
		until(t, e, "connections", func(c Counters) bool { return c.Ready == 3 })
		if err := e.Begin(Now()); err != nil {
			t.Fatal(err)
		}
		for topic := range topics {
			send(topic, 1)
		}
		s := until(t, e, "deliveries", func(c Counters) bool { return c.Deliveries >= int64(3*topics) })
		if s.Count.Fewest != int64(topics) || s.Count.Most != int64(topics) || s.Count.Failed != 0 {
			t.Errorf("%d topics: %+v", topics, s.Count)
		}
	}
}

// count returns the number of latencies of a kind.
func count(s Sample, kind Kind) (n int64) {
	for _, b := range s.Hists[kind.String()] {
		n += b[1]
	}
	return n
}

func TestEngineReconnectsAfterDrop(t *testing.T) {
	e, _ := run(t, Config{Count: 30, Topics: 1, PerClient: 1}, false)
	for range 3 {
		if err := e.Connect(); err != nil {
			t.Fatal(err)
		}
		until(t, e, "connections", func(c Counters) bool { return c.Ready == 30 && c.Open == 30 })
		if err := e.Drop(); err != nil {
			t.Fatal(err)
		}
		s := until(t, e, "drop", func(c Counters) bool { return c.Open == 0 && c.Ready == 0 })
		if s.Count.Failed+s.Count.Closed != 0 {
			t.Errorf("%+v", s.Count)
		}
	}
}

func TestEngineCalls(t *testing.T) {
	for _, rate := range []float64{0, 2000} {
		for _, http := range []bool{false, true} {
			e, _ := run(t, Config{Count: 8, Topics: 1, PerClient: 1, HTTP: http, HTTPTarget: "/api/load/t0"}, false)
			if err := e.Connect(); err != nil {
				t.Fatal(err)
			}
			until(t, e, "connections", func(c Counters) bool { return c.Ready == 8 })
			if err := e.Begin(Now()); err != nil {
				t.Fatal(err)
			}
			kind := Call
			if http {
				kind = Get
			}
			end := Now() + int64(200*time.Millisecond)
			if err := e.Load(Load{Kind: kind.String(), Rate: rate, Window: 2, Until: end}); err != nil {
				t.Fatal(err)
			}
			s := until(t, e, "answers", func(c Counters) bool { return Now() > end && c.Issued > 0 && c.Waiting == 0 })
			if s.Count.Answers != s.Count.Issued || s.Count.Errors != 0 || count(s, kind) != s.Count.Answers {
				t.Errorf("rate %v, http %v: %+v, %d latencies", rate, http, s.Count, count(s, kind))
			}
			if rate > 0 && s.Count.Issued+s.Count.Unsent > 401 {
				t.Errorf("%d requests made and %d not, at %v/s in 200 ms", s.Count.Issued, s.Count.Unsent, rate)
			}
		}
	}
}

// Slow clients receive nothing until Resume, and then their whole backlog.
func TestEngineSlowClients(t *testing.T) {
	e, send := run(t, Config{Count: 20, Topics: 1, PerClient: 1, Slow: 0.5}, false)
	if err := e.Connect(); err != nil {
		t.Fatal(err)
	}
	until(t, e, "connections", func(c Counters) bool { return c.Ready == 20 && c.Slow == 10 })
	if err := e.Begin(Now()); err != nil {
		t.Fatal(err)
	}
	send(0, 100)
	s := until(t, e, "deliveries", func(c Counters) bool { return c.Deliveries == 1000 })
	if s.Count.SlowDeliveries != 0 {
		t.Errorf("%+v", s.Count)
	}
	if err := e.Resume(); err != nil {
		t.Fatal(err)
	}
	until(t, e, "late deliveries", func(c Counters) bool { return c.SlowDeliveries == 1000 && c.Ready == 20 })
}

func TestConnectToClosedPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	e, err := New(Config{Protocol: ProtocolFloor, Addr: addr, Count: 3, Topics: 1, PerClient: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if err := e.Connect(); err != nil {
		t.Fatal(err)
	}
	s := until(t, e, "failures", func(c Counters) bool { return c.Failed == 3 })
	if s.Count.LastError == "" || s.Count.Open != 0 {
		t.Errorf("%+v", s.Count)
	}
}

// Clients of a server on the loopback choose their source addresses, in whatever form the
// server's address is written.
func TestSourceAddresses(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:80", "[::ffff:127.0.0.1]:80"} {
		to, err := Config{Addr: addr, Count: 1}.check()
		if err != nil || !to.Addr().Is4() || !to.Addr().IsLoopback() {
			t.Errorf("%s: %v, %v", addr, to, err)
		}
	}
	seen := map[[6]byte]bool{}
	for i := range 3 * perSource {
		from := source(i)
		key := [6]byte{from.Addr[0], from.Addr[1], from.Addr[2], from.Addr[3], byte(from.Port >> 8), byte(from.Port)}
		if seen[key] || from.Addr[0] != 127 {
			t.Fatalf("client %d: %v", i, from)
		}
		seen[key] = true
	}
}

// Clients send their token with the upgrade.
func TestToken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	heads := make(chan http.Header, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			close(heads)
			return
		}
		defer func() { _ = c.Close() }()
		r, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			close(heads)
			return
		}
		heads <- r.Header
	}()
	e, err := New(Config{Protocol: ProtocolFloor, Addr: l.Addr().String(), Count: 1, Topics: 1, PerClient: 1, Token: "a.b.c"})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if err := e.Connect(); err != nil {
		t.Fatal(err)
	}
	if got := testkit.Await(t, heads, "an upgrade").Get("Authorization"); got != "Bearer a.b.c" {
		t.Errorf("Authorization %q", got)
	}
	if _, err := New(Config{Protocol: ProtocolFloor, Addr: l.Addr().String(), Count: 1, Topics: 1, PerClient: 1, Token: "a\r\nX: y"}); err == nil {
		t.Error("a token with a line end is sent")
	}
}
