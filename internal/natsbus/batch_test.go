package natsbus

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// wire counts what a gateway writes to NATS: system calls, and protocol lines by their first word.
// Its methods may be called from any goroutine.
type wire struct {
	mu     sync.Mutex
	writes int
	bytes  int
	lines  map[string]int
	rest   []byte // of an incomplete line
	skip   int    // bytes of a payload that is still to come
}

// dial connects to a server as Options.InProcess does.
func (w *wire) dial(addr string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil, err
		}
		w.mu.Lock()
		w.rest, w.skip = nil, 0
		w.mu.Unlock()
		return wireConn{c, w}, nil
	}
}

type wireConn struct {
	net.Conn
	w *wire
}

func (c wireConn) Write(p []byte) (int, error) {
	c.w.wrote(p)
	return c.Conn.Write(p)
}

func (w *wire) wrote(p []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writes++
	w.bytes += len(p)
	w.rest = append(w.rest, p...)
	for {
		n := min(w.skip, len(w.rest))
		w.rest, w.skip = w.rest[n:], w.skip-n
		line, rest, whole := bytes.Cut(w.rest, []byte("\r\n"))
		if w.skip > 0 || !whole {
			return
		}
		w.rest = rest
		fields := bytes.Fields(line)
		w.lines[string(fields[0])]++
		if string(fields[0]) == "PUB" {
			size, err := strconv.Atoi(string(fields[len(fields)-1]))
			if err != nil {
				panic(fmt.Sprintf("a PUB line without a size: %q", line))
			}
			w.skip = size + len("\r\n")
		}
	}
}

// take returns what was counted, and starts again.
func (w *wire) take() (writes, bytes int, lines map[string]int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	writes, bytes, lines = w.writes, w.bytes, w.lines
	w.writes, w.bytes, w.lines = 0, 0, map[string]int{}
	return writes, bytes, lines
}

// Subscribing to thousands of names takes one write for each batch, and no round trip: neither in a
// storm of subscribe and get requests, nor when all end, nor when a new connection repeats them.
func TestSubscriptionsAreBatched(t *testing.T) {
	const turns, perTurn = 5, 500
	w := &wire{lines: map[string]int{}}
	h := newHarness(t, func(h *harness, o *Options) {
		o.InProcess, o.Ping = w.dial(h.nats.URL()[len("nats://"):]), time.Hour
	})
	// Each turn of the test is one of the publisher, at most: a write at its end, and one of
	// nats.go's flusher after it. The rest is what connecting takes.
	most := func(bytes int) int { return 2*turns + bytes/corkBytes + 20 }
	check := func(what string, want map[string]int) {
		t.Helper()
		writes, bytes, lines := w.take()
		t.Logf("%s: %d writes of %d bytes, %v", what, writes, bytes, lines)
		if writes > most(bytes) {
			t.Errorf("%s: %d writes of %d bytes, want %d at most", what, writes, bytes, most(bytes))
		}
		for word, n := range want {
			if lines[word] != n {
				t.Errorf("%s: %d lines %s, want %d", what, lines[word], word, n)
			}
		}
		if lines["PING"] > 3 {
			t.Errorf("%s: %d round trips", what, lines["PING"])
		}
	}
	h.service("get.>", func(_ *nats.Conn, m *nats.Msg) { _ = m.Respond([]byte("{}")) })
	h.sync()
	w.take()
	m := h.bus.Metrics()
	counted := func(what string, subscribes, unsubscribes uint64) {
		t.Helper()
		if s, u := m.Subscribes.Load(), m.Unsubscribes.Load(); s != subscribes || u != unsubscribes {
			t.Errorf("%s: %d SUB and %d UNSUB are counted, want %d and %d", what, s, u, subscribes, unsubscribes)
		}
	}
	base := len(h.bus.links[0].base.subjects) + 1 // and that of the marks

	var last *outcome
	all := func(do func(name string) error) {
		t.Helper()
		for turn := range turns {
			for i := range perTurn {
				if err := do(fmt.Sprint("r.", turn*perTurn+i)); err != nil {
					t.Fatal(err)
				}
			}
			h.caller.Flush()
		}
	}
	all(func(name string) error {
		err := h.caller.Subscribe(name)
		last = h.request(name, "get."+name, "{}")
		return err
	})
	h.finish(last)
	check("storm", map[string]int{"SUB": turns * perTurn, "PUB": turns * perTurn})

	counted("storm", uint64(base+turns*perTurn), 0)

	h.nats.Cut("sluice")
	h.want("signal", "signal 0 disconnected")
	h.want("signal", "signal 0 connected")
	h.sync()
	check("reconnect", map[string]int{"SUB": turns*perTurn + base})

	all(func(name string) error { return h.caller.Unsubscribe(name) })
	h.sync()
	check("end", map[string]int{"UNSUB": turns * perTurn})
	counted("end", uint64(2*(base+turns*perTurn)), turns*perTurn)
}

// What is written to a corked connection leaves together: when the turn ends, when the connection
// is made, before a read while it is made, and in any case when it is much.
func TestCork(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	w := &wire{lines: map[string]int{}}
	c := newStrictConn(wireConn{ours, w}, time.Minute)
	go func() { _, _ = io.Copy(io.Discard, theirs) }()
	write := func(text string) {
		t.Helper()
		if _, err := c.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	want := func(what string, writes, bytes int) {
		t.Helper()
		if n, b, _ := w.take(); n != writes || b != bytes {
			t.Errorf("%s: %d writes of %d bytes, want %d of %d", what, n, b, writes, bytes)
		}
	}
	write("SUB a 1\r\n")
	write("SUB b 2\r\n")
	want("connecting", 0, 0)
	if err := c.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Fatal("read something")
	}
	want("a read while connecting", 1, 18)
	write("SUB c 3\r\n")
	c.cork()
	c.connected()
	want("connected in a turn", 0, 0)
	c.uncork()
	want("the end of the turn", 1, 9)
	write("SUB d 4\r\n")
	want("between turns", 1, 9)
	c.cork()
	for range 2*corkBytes/9 + 2 {
		write("SUB e 5\r\n")
	}
	c.uncork()
	want("a long turn", 3, (2*corkBytes/9+2)*9)
	c.uncork()
	want("nothing", 0, 0)
}

// A write that fails when the turn ends closes the connection: a server that does not read in time
// is left.
func TestUncorkInTime(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	c := newStrictConn(ours, time.Millisecond)
	c.connected()
	c.cork()
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	c.uncork()
	if _, err := theirs.Read(make([]byte, 1)); err == nil {
		t.Fatal("the connection is still open")
	}
}
