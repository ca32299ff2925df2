//go:build linux

package client

import (
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/loadtest/floor"
)

// Numbered events show what a client missed, what it got twice, and how long it waited.
func TestNumberedEvents(t *testing.T) {
	const gap = int64(time.Second)
	for what, c := range map[string]struct {
		numbers          []int64
		missed, repeated int64
		pause            int64 // ms; each event comes 5 ms after it was due, but the last 50 ms
	}{
		"all":        {[]int64{0, 1, 2, 3}, 0, 0, 50},
		"twice":      {[]int64{0, 1, 1, 2}, 0, 1, 50},
		"older":      {[]int64{0, 2, 1, 3}, 1, 1, 1005},
		"a gap":      {[]int64{0, 1, 4, 5}, 2, 0, 2005},
		"late gap":   {[]int64{0, 1, 5}, 3, 0, 3050},
		"none first": {[]int64{2, 3}, 2, 0, 50}, // when they were due is not known
		"unnumbered": {[]int64{-1, -1}, 0, 0, 0},
	} {
		th := newBareThread(false)
		th.cfg.Numbered, th.cfg.PerClient = true, 1
		conn := &th.conns[0]
		for i, n := range c.numbers {
			due := max(n, 0)*gap + 1
			late := 5 * time.Millisecond
			if i == len(c.numbers)-1 {
				late = 50 * time.Millisecond
			}
			th.now = due + int64(late)
			event := append(appendEvent([]byte(`{"event":"load.t0.tick","data":`), due, n, 100), '}')
			th.driver.Message(conn, event)
		}
		if th.count.Missed != c.missed || th.count.Repeated != c.repeated || th.count.Deliveries != int64(len(c.numbers)) {
			t.Errorf("%s: %+v", what, th.count)
		}
		if got := conn.pause / int64(time.Millisecond); got != c.pause {
			t.Errorf("%s: it waited for %d ms, want %d", what, got, c.pause)
		}
		if h := th.take(true).Hists[Pause.String()]; (len(h) != 0) != (c.pause != 0) {
			t.Errorf("%s: the sample has %v", what, h)
		}
		if h := th.take(true).Hists[Pause.String()]; len(h) != 0 {
			t.Errorf("%s: the next sample begins with %v", what, h)
		}
	}
}

func TestBackOff(t *testing.T) {
	for _, c := range []struct {
		attempts uint8
		share    float64
		want     time.Duration
	}{{0, 0, 250 * time.Millisecond}, {0, 1, 500 * time.Millisecond}, {2, 0.5, 1500 * time.Millisecond}, {6, 1, 20 * time.Second}, {255, 0, 10 * time.Second}} {
		if got := backOff(500*time.Millisecond, c.attempts, c.share); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// cutter is a listener between clients and a floor. It can cut all connections, and refuse new ones
// for some time.
type cutter struct {
	net.Listener
	mu     sync.Mutex
	conns  []net.Conn
	refuse int // so many of the next connections
}

func (c *cutter) run(to string) {
	for {
		in, err := c.Accept()
		if err != nil {
			return
		}
		c.mu.Lock()
		refused := c.refuse > 0
		if refused {
			c.refuse--
		}
		c.mu.Unlock()
		out, err := net.Dial("tcp", to)
		if err != nil || refused {
			_ = in.Close()
			continue
		}
		c.mu.Lock()
		c.conns = append(c.conns, in, out)
		c.mu.Unlock()
		go func() { _, _ = io.Copy(out, in) }()
		go func() { _, _ = io.Copy(in, out) }()
	}
}

func (c *cutter) cut(refuse int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refuse = refuse
	for _, one := range c.conns {
		_ = one.Close()
	}
	c.conns = nil
}

// Clients that lose their connection come back until all are ready, with their requests.
func TestClientsComeBack(t *testing.T) {
	s, err := floor.Listen(floor.Options{})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.Serve() }()
	defer s.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	front := &cutter{Listener: l}
	go front.run(s.Addr)
	defer front.cut(0)
	defer l.Close()
	const n = 6
	e, err := New(Config{Protocol: ProtocolFloor, Addr: l.Addr().String(), Count: n, Topics: 1, PerClient: 1, Threads: 2, Numbered: true, Return: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	feed, err := net.Dial("tcp", s.FeedAddr)
	if err != nil {
		t.Fatal(err)
	}
	defer feed.Close()
	number := int64(0)
	send := func() {
		t.Helper()
		if _, err := feed.Write(floor.AppendLine(nil, 0, AppendNumbered(nil, Now(), number, 100))); err != nil {
			t.Fatal(err)
		}
		number++
	}
	if err := e.Connect(); err != nil {
		t.Fatal(err)
	}
	until(t, e, "clients", func(c Counters) bool { return c.Ready == n })
	if err := e.Load(Load{Kind: "call", Window: 2, Until: Now() + int64(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	send()
	until(t, e, "events and responses", func(c Counters) bool { return c.Deliveries == n && c.Answers > 2*n })
	front.cut(4)
	got := until(t, e, "clients after the cut", func(c Counters) bool { return c.Ready == n && c.Closed == n && c.Failed >= 4 }).Count
	number += 3 // those that they miss
	send()
	before := got.Answers
	got = until(t, e, "an event and responses", func(c Counters) bool { return c.Deliveries == 2*n && c.Answers > before+2*n }).Count
	if got.Missed != 3*n || got.Repeated != 0 || got.Unanswered == 0 || got.Waiting > 2*n {
		t.Errorf("%+v", got)
	}
}

// A port at which nobody listens is told apart from other failures.
func TestRefusedConnects(t *testing.T) {
	// A socket that is bound and does not listen keeps others from the port.
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port)
	e, err := New(Config{Protocol: ProtocolFloor, Addr: addr, Count: 1, Topics: 1, PerClient: 1, Return: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if err := e.Connect(); err != nil {
		t.Fatal(err)
	}
	until(t, e, "refused connects", func(c Counters) bool { return c.Refused > 2 && c.Failed >= c.Refused })
}
