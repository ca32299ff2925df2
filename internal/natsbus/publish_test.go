package natsbus

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// Requests made while NATS is away wait in the publisher's queue. Those that run out of time are
// never sent, the others are sent when it is back.
func TestRequestsWhileDisconnected(t *testing.T) {
	h := newHarness(t)
	h.nats.Stop()
	h.want("signal", "signal 0 disconnected")
	early := h.request("a", "get.early", "")
	h.caller.Flush()
	h.advance(2 * time.Second)
	late := h.request("a", "get.late", "")
	h.caller.Flush()
	h.advance(2 * time.Second)
	h.finish(early)
	if early.calls != 1 || !errors.Is(early.err, ErrDisconnected) || !errors.Is(early.err, ErrTimeout) {
		t.Fatalf("early: %d calls, %v", early.calls, early.err)
	}
	if late.calls != 0 {
		t.Fatalf("late: %v", late.err)
	}
	seen := make(chan string, 10)
	h.nats.Start()
	h.service("get.>", func(_ *nats.Conn, m *nats.Msg) {
		seen <- m.Subject
		_ = m.Respond([]byte("{}"))
	})
	h.want("signal", "signal 0 connected")
	h.sync()
	h.finish(late)
	if h.bus.Metrics().Unsent.Load() != 1 {
		t.Fatalf("left out: %d", h.bus.Metrics().Unsent.Load())
	}
	if late.err == nil {
		if s := <-seen; s != "get.late" {
			t.Fatalf("%s was sent after its time", s)
		}
	} else if late.err != ErrNoResponders { // the bus was faster than the service
		t.Fatal(late.err)
	}
}

// stalling is a NATS server as far as the handshake goes, which stops reading when something is
// published to stall.now.
type stalling struct {
	ends    chan net.Conn // the server's ends of its connections, once they are made
	stalled chan struct{} // one token for each time it stopped reading
	blocked chan struct{} // a token when a write has begun that it will not read
	frozen  bool          // it goes on reading, but answers nothing more
}

// stallingEnd is the client's end of a connection to it. nats.go writes from one goroutine at a
// time.
type stallingEnd struct {
	net.Conn
	s    *stalling
	past bool // what stalls the server has been written
}

func (c *stallingEnd) Write(p []byte) (int, error) {
	if c.past {
		poke(c.s.blocked)
	}
	c.past = c.past || bytes.Contains(p, []byte("stall.now"))
	return c.Conn.Write(p)
}

func (s *stalling) connect() (net.Conn, error) {
	ours, theirs := net.Pipe()
	out := make(chan string, 100) // a pipe has no buffer of its own
	go func() {
		for text := range out {
			fmt.Fprint(theirs, text)
		}
	}()
	go func() {
		defer close(out)
		fmt.Fprint(theirs, `INFO {"server_id":"x","version":"2.10.0","proto":1,"headers":true,"max_payload":1048576}`+"\r\n")
		lines := bufio.NewReader(theirs)
		made := false
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			if strings.HasPrefix(line, "PING") {
				if !made {
					made = true
					fmt.Fprint(theirs, "PONG\r\n")
					s.ends <- theirs
					continue
				}
				out <- "PONG\r\n"
			}
			if subject, ok := strings.CutPrefix(line, "PUB _INBOX."); ok { // a mark
				subject, _, _ = strings.Cut(subject, " ")
				out <- fmt.Sprintf("-ERR 'Permissions Violation for Publish to \"_INBOX.%s\"'\r\n", subject)
			}
			if !strings.Contains(line, "stall.now") {
				continue
			}
			s.stalled <- struct{}{}
			if s.frozen {
				_, _ = io.Copy(io.Discard, lines) // it ends with the connection
			}
			return
		}
	}()
	return &stallingEnd{Conn: ours, s: s}, nil
}

func stalled(t *testing.T, change func(*Options)) (*harness, *stalling) {
	s := &stalling{ends: make(chan net.Conn, 100), stalled: make(chan struct{}, 100), blocked: make(chan struct{}, 1)}
	h := &harness{t: t}
	h.connect(func(_ *harness, o *Options) {
		o.InProcess = func(context.Context) (net.Conn, error) { return s.connect() }
		change(o)
	})
	return h, s
}

// stall returns when the server reads no more.
func (h *harness) stall(s *stalling) {
	h.request("a", "stall.now", "")
	h.caller.Flush()
	<-s.stalled
}

// A server that accepts no more bytes blocks the publisher, and nobody else.
func TestBlockedPublisherDoesNotBlockTheOwner(t *testing.T) {
	const limit = 100
	h, s := stalled(t, func(o *Options) { o.QueueLimit, o.WriteTimeout = limit, time.Hour })
	h.stall(s)
	all := []*outcome{h.request("a", "get.a", "")}
	h.caller.Flush()
	<-s.blocked
	// The write has the connection now: the publisher waits for it at the end of its turn or at the
	// beginning of the next one.
	refused := func() (n int) {
		for _, o := range all {
			if errors.Is(o.err, ErrOverloaded) {
				n++
			}
		}
		return n
	}
	for refused() < limit {
		all = append(all, h.request("a", "get.a", strings.Repeat("x", 1000)))
		h.caller.Flush()
		for len(h.items) > 0 {
			h.next("reply")
		}
		if len(all) > 100*limit {
			t.Fatal("the queue has no bound")
		}
	}
	if n := h.bus.Metrics().Queue.Load(); n != limit {
		t.Fatalf("queue: %d, want %d", n, limit)
	}
	// Interest is never refused: a subscription that got lost would be a resource without events.
	if err := h.caller.Subscribe("a"); err != nil {
		t.Fatal(err)
	}
	h.caller.Flush()
	h.advance(4 * time.Second)
	for i, o := range all {
		h.finish(o)
		if o.calls != 1 || o.err != ErrOverloaded && o.err != ErrTimeout {
			t.Fatalf("request %d: %d calls, %v", i, o.calls, o.err)
		}
	}
	// When the connection breaks, the publisher goes on with the next one.
	(<-s.ends).Close()
	h.want("signal", "signal 0 disconnected")
	h.want("signal", "signal 0 connected")
	h.want("signal", "signal 0 gap")
	for h.bus.Metrics().Queue.Load() > 0 {
		runtime.Gosched() // the publisher leaves out what is over
	}
	h.stepPublisher()
	if n := h.bus.Metrics().Unsent.Load(); n == 0 {
		t.Fatal("requests that were over were sent")
	}
}

// stepPublisher returns when the publisher has done what was queued before.
func (h *harness) stepPublisher() {
	h.t.Helper()
	o := h.request("a", "get.a", strings.Repeat("x", 1<<20+1))
	h.caller.Flush()
	h.finish(o)
	if !errors.Is(o.err, ErrPayloadTooLarge) {
		h.t.Fatal(o.err)
	}
}

// A write that cannot be completed in time cuts the connection, so that a stalled server is left.
func TestStalledServerIsLeft(t *testing.T) {
	h, s := stalled(t, func(o *Options) { o.WriteTimeout = 10 * time.Millisecond })
	h.stall(s)
	for n := range 100 {
		if err := h.caller.Subscribe(fmt.Sprint("n.", n)); err != nil {
			t.Fatal(err)
		}
		h.caller.Flush()
	}
	h.want("signal", "signal 0 disconnected")
	h.want("signal", "signal 0 connected")
	h.want("signal", "signal 0 gap")
	h.stepPublisher()
	if n := h.bus.Metrics().Subscriptions.Load(); n != 100 {
		t.Fatalf("subscriptions: %d", n)
	}
}

// A write error closes the connection, however little nats.go makes of it.
func TestStrictConn(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	c := newStrictConn(ours, time.Minute)
	c.connected()
	if err := c.SetWriteDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("x")); err == nil {
		t.Fatal("a write past its deadline succeeded")
	}
	if _, err := theirs.Read(make([]byte, 1)); err == nil {
		t.Fatal("the connection is still open")
	}
}

// Close does not wait for a server that does not read.
func TestCloseWithBlockedPublisher(t *testing.T) {
	h, s := stalled(t, func(o *Options) { o.closeGrace = 10 * time.Millisecond })
	h.stall(s)
	for range 100 {
		h.request("a", "get.a", strings.Repeat("x", 1000))
	}
	h.caller.Flush()
	h.bus.Close()
	if _, err := (<-s.ends).Read(make([]byte, 1)); err == nil {
		t.Fatal("the connection is still open")
	}
}

func TestQueueBytesLimit(t *testing.T) {
	h := newHarness(t, func(_ *harness, o *Options) { o.QueueBytes = 100 })
	h.nats.Stop()
	h.want("signal", "signal 0 disconnected")
	first := h.request("a", "get.a", strings.Repeat("x", 200))
	h.caller.Flush()
	second := h.request("a", "get.a", "{}")
	h.finish(second)
	if second.err != ErrOverloaded || first.calls != 0 {
		t.Fatalf("first %v, second %v", first.err, second.err)
	}
}

func TestCloseWhileDisconnected(t *testing.T) {
	h := newHarness(t)
	h.nats.Stop()
	h.want("signal", "signal 0 disconnected")
	o := h.request("a", "get.a", "")
	h.caller.Flush()
	h.bus.Close()
	h.finish(o)
	if o.err != ErrClosed {
		t.Fatalf("got %v", o.err)
	}
}
