package netpoll

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/internal/owner"
	"sluice/internal/ratelimit"
	"sluice/internal/testkit"
	"sluice/wsproto"
)

// patience bounds every wait.
const patience = testkit.Patience

// testHandler echoes messages, records what happens, and runs functions on loops.
type testHandler struct {
	onLag     func(c *Conn)                                    // nil: nothing
	refuse    int                                              // result of Upgrade
	stream    func(c *Conn, h *wsproto.Head) bool              // nil: none is kept
	request   func(c *Conn, h *wsproto.Head, body []byte) bool // nil: none is kept
	message   func(c *Conn, b []byte)                          // nil: echo
	onOpen    func(c *Conn, h *wsproto.Head)                   // nil: nothing
	onIterate func(l *Loop)                                    // nil: nothing
	onClose   func(c *Conn)                                    // nil: nothing
	onStart   func(l *Loop)                                    // nil: nothing
	opened    chan *Conn                                       // each opened connection
	closed    chan *Conn                                       // each closed connection
	causes    sync.Map                                         // their Cause
	upgrade   func(c *Conn, h *wsproto.Head)                   // nil: nothing
	mailbox   []*owner.Mailbox[func(l *Loop)]                  // by loop
}

func newTestHandler(loops int) *testHandler {
	return &testHandler{
		opened:  make(chan *Conn, 4096),
		closed:  make(chan *Conn, 4096),
		mailbox: make([]*owner.Mailbox[func(*Loop)], loops),
	}
}

func (h *testHandler) Start(l *Loop) {
	m := owner.NewMailbox[func(*Loop)](l.Wake)
	l.Data = m
	h.mailbox[l.Index()] = m
	if h.onStart != nil {
		h.onStart(l)
	}
}

func (h *testHandler) Upgrade(c *Conn, head *wsproto.Head) int {
	if h.upgrade != nil {
		h.upgrade(c, head)
	}
	return h.refuse
}

func (h *testHandler) Open(c *Conn, head *wsproto.Head) {
	c.Session = string(head.Get("X-Name"))
	if h.onOpen != nil {
		h.onOpen(c, head)
	}
	h.opened <- c
}

func (h *testHandler) Message(c *Conn, payload []byte) {
	if h.message != nil {
		h.message(c, payload)
		return
	}
	a := c.Loop().Arena()
	c.Send(a.Commit(wsproto.AppendFrame(a.Begin(), wsproto.OpText, payload)))
}

func (h *testHandler) Stream(c *Conn, head *wsproto.Head) bool {
	return h.stream != nil && h.stream(c, head)
}

func (h *testHandler) Request(c *Conn, head *wsproto.Head, body []byte) bool {
	return h.request != nil && h.request(c, head, body)
}

func (h *testHandler) Lagging(c *Conn) {
	if h.onLag != nil {
		h.onLag(c)
	}
}

func (h *testHandler) Closed(c *Conn) {
	cause, _ := Ending(c)
	h.causes.Store(c, cause)
	h.closed <- c
	if h.onClose != nil {
		h.onClose(c)
	}
}

func (h *testHandler) Iterate(l *Loop) {
	l.Data.(*owner.Mailbox[func(*Loop)]).Drain(0, func(f func(*Loop)) { f(l) })
	if h.onIterate != nil {
		h.onIterate(l)
	}
}

// server is an engine on loopback with a clock that stands still.
type server struct {
	*Engine
	t     testing.TB
	h     *testHandler
	clock *owner.ManualClock
	m     *Metrics
}

// serve starts a server of one loop; change may adapt its options and handler.
func serve(t testing.TB, change func(o *Options, h *testHandler)) *server {
	t.Helper()
	s := &server{t: t, clock: owner.NewManualClock(), m: new(Metrics)}
	o := Options{Addr: "127.0.0.1:0", Loops: 1, WSPath: "/ws", Clock: s.clock, Metrics: s.m, Flush: testFlush,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	addresses := new(ratelimit.Metrics)
	o.Addresses = ratelimit.New(ratelimit.Options{Connections: 1 << 20, Metrics: addresses})
	s.h = newTestHandler(8)
	if change != nil {
		change(&o, s.h)
	}
	o.Handler = s.h
	var err error
	if s.Engine, err = New(o); err != nil {
		t.Fatal(err)
	}
	if err = s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // do not wait for clients
		_ = s.Stop(ctx)
		if n := addresses.Addresses.Load(); n != 0 && s.m.OpenAll.Load() == 0 {
			t.Errorf("%d addresses have connections, and there is none", n)
		}
	})
	return s
}

// on runs f in an iteration of the loop and waits for it.
func (s *server) on(loop int, f func(l *Loop)) {
	s.t.Helper()
	done := make(chan struct{})
	s.h.mailbox[loop].Put(func(l *Loop) { f(l); close(done) })
	await(s.t, done, "an iteration of the loop")
}

// session returns what Open made of the connection.
func (s *server) session(c *Conn) (v any) {
	s.t.Helper()
	s.on(c.loop.index, func(*Loop) { v = c.Session })
	return v
}

// sync waits for the end of the iterations that have begun.
func (s *server) sync() {
	for i := range s.Loops() {
		s.on(i, func(*Loop) {})
	}
}

// settle is sync for a server that may end before.
func (s *server) settle() {
	for i := range s.Loops() {
		done := make(chan struct{})
		s.h.mailbox[i].Put(func(*Loop) { close(done) })
		select {
		case <-done:
		case <-s.Ended():
		}
	}
}

// until runs iterations until cond holds.
func (s *server) until(what string, cond func() bool) {
	s.t.Helper()
	for end := time.Now().Add(patience); !cond(); s.sync() {
		if time.Now().After(end) {
			s.t.Fatalf("waited in vain: %s", what)
		}
	}
}

// advance moves the clock once all iterations that have begun have armed their timers, and has the
// loops notice: an alarm on the way may have them arm the next one by a time that has passed when
// they do.
func (s *server) advance(d time.Duration) {
	end := s.clock.Now() + d
	for {
		s.settle()
		s.settle()
		at, ok := s.clock.Next()
		if !ok || at > end {
			break
		}
		s.clock.Advance(max(at-s.clock.Now(), 0))
	}
	s.clock.Advance(end - s.clock.Now())
	s.settle()
}

// passing runs f while time passes in small steps, each of which the loops have noticed before the
// next. Before each step, the goroutines whose sockets are ready run.
func (s *server) passing(f func()) {
	s.t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	near, far, err := socketPair()
	if err != nil {
		s.t.Fatal(err)
	}
	defer near.Close()
	defer far.Close()
	go func() { _, _ = io.Copy(far, far) }()
	b := []byte{0}
	s.until("the work under way", func() bool {
		_, _ = near.Write(b)
		_, _ = near.Read(b) // what Go's poller finds together with the echo may run before
		s.clock.Advance(tick)
		select {
		case <-done:
			return true
		default:
			return false
		}
	})
}

func await[T any](t testing.TB, c <-chan T, what string) T {
	t.Helper()
	return testkit.Await(t, c, what)
}

// client is the other end of a connection, at the level of bytes and frames.
type client struct {
	net.Conn
	t testing.TB
	r *bufio.Reader
}

func dial(t testing.TB, addr net.Addr) *client {
	t.Helper()
	c, err := net.Dial("tcp", addr.String())
	return dialled(t, c, err)
}

// dialled returns the client of the results of net.Dial.
func dialled(t testing.TB, c net.Conn, err error) *client {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return &client{c, t, bufio.NewReader(c)}
}

const key = "dGhlIHNhbXBsZSBub25jZQ=="

// upgradeHead is a valid handshake.
func upgradeHead(path, name string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: " + key + "\r\nSec-WebSocket-Version: 13\r\nX-Name: " + name + "\r\n\r\n"
}

// connect returns an open WebSocket and its server side.
func (s *server) connect() (*client, *Conn) {
	s.t.Helper()
	c := dial(s.t, s.Addr())
	c.send([]byte(upgradeHead("/ws", "")))
	c.upgraded()
	return c, await(s.t, s.h.opened, "Open")
}

// reset closes the connection so that the server's kernel notices at once.
func (c *client) reset() {
	c.t.Helper()
	tcp := c.Conn.(*net.TCPConn)
	if err := tcp.SetLinger(0); err != nil {
		c.t.Fatal(err)
	}
	_ = tcp.Close()
}

// half shuts the client's side down.
func (c *client) half() {
	c.t.Helper()
	if err := c.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) send(b []byte) {
	c.t.Helper()
	if _, err := c.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// status reads a response head and returns its status code.
func (c *client) status() (code int, head string) {
	c.t.Helper()
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			c.t.Fatalf("response: %v after %q", err, head)
		}
		head += line
		if line == "\r\n" {
			break
		}
	}
	if _, err := fmt.Sscanf(head, "HTTP/1.1 %d", &code); err != nil {
		c.t.Fatalf("response %q: %v", head, err)
	}
	return code, head
}

func (c *client) upgraded() {
	c.t.Helper()
	code, head := c.status()
	if code != 101 || !strings.Contains(head, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") {
		c.t.Fatalf("not upgraded: %q", head)
	}
}

func masked(op wsproto.Op, payload string) []byte {
	return wsproto.AppendMaskedFrame(nil, true, op, []byte(payload), [4]byte{1, 2, 3, 4})
}

func closeFrame(code uint16) []byte {
	return masked(wsproto.OpClose, string(binary.BigEndian.AppendUint16(nil, code)))
}

func (c *client) text(s string) { c.t.Helper(); c.send(masked(wsproto.OpText, s)) }

// frame reads a frame of the server.
func (c *client) frame() (op wsproto.Op, payload []byte) {
	c.t.Helper()
	op, payload, err := readFrame(c.r)
	if err != nil {
		c.t.Fatalf("frame: %v", err)
	}
	return op, payload
}

func readFrame(r io.Reader) (op wsproto.Op, payload []byte, err error) {
	var h [8]byte
	if _, err = io.ReadFull(r, h[:2]); err != nil {
		return 0, nil, err
	}
	if h[0]&0xf0 != 0x80 || h[1]&0x80 != 0 {
		return 0, nil, fmt.Errorf("frame begins with % x", h[:2])
	}
	op = wsproto.Op(h[0] & 15)
	n := uint64(h[1])
	switch n {
	case 126:
		_, err = io.ReadFull(r, h[:2])
		n = uint64(binary.BigEndian.Uint16(h[:]))
	case 127:
		_, err = io.ReadFull(r, h[:8])
		n = binary.BigEndian.Uint64(h[:])
	}
	if err != nil || n > 1<<26 {
		return 0, nil, fmt.Errorf("frame of %d bytes: %v", n, err)
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(r, payload)
	return op, payload, err
}

func (c *client) wantText(want string) {
	c.t.Helper()
	if op, got := c.frame(); op != wsproto.OpText || string(got) != want {
		c.t.Fatalf("got %d %.100q, want text %.100q", op, got, want)
	}
}

func (c *client) wantClose(want uint16) {
	c.t.Helper()
	op, got := c.frame()
	if op != wsproto.OpClose || len(got) < 2 || binary.BigEndian.Uint16(got) != want {
		c.t.Fatalf("got %d %q, want a close frame with %d", op, got, want)
	}
}

func (c *client) wantEOF() {
	c.t.Helper()
	if b, err := io.ReadAll(c.r); err != nil || len(b) > 0 {
		c.t.Fatalf("got %q and %v, want the end", b, err)
	}
}

func (s *server) wantClosed(code uint16, why Cause) *Conn {
	s.t.Helper()
	c := await(s.t, s.h.closed, "Closed")
	if n := s.m.ClosedWith(code).Load(); n != 1 {
		s.t.Errorf("%d connections counted as closed with %d, want 1", n, code)
	}
	if cause, _ := s.h.causes.Load(c); cause != why {
		s.t.Errorf("ended because of %v, want %v", cause, why)
	}
	return c
}

func repeat(s string, n int) string { return string(bytes.Repeat([]byte(s), n)) }

// wantCloseOrEOF accepts a close frame before the end.
func (c *client) wantCloseOrEOF() {
	c.t.Helper()
	if op, _, err := readFrame(c.r); err == nil && op != wsproto.OpClose {
		c.t.Fatalf("got a frame of type %d", op)
	}
}
