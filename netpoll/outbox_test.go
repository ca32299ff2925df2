package netpoll

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/internal/owner"
	"sluice/wsproto"
)

// looseLoop is a loop without gnet, for tests of what happens between Send and the system call.
func looseLoop(t testing.TB, limit int) *Loop {
	t.Helper()
	e, err := New(Options{Addr: "127.0.0.1:0", Loops: 1, Handler: quietHandler{}, Clock: owner.NewManualClock(),
		Limits: Limits{OutboxBytes: limit}})
	if err != nil {
		t.Fatal(err)
	}
	l := e.loops[0]
	l.output.flusher = newFlusher(t, testFlush)
	l.begin()
	return l
}

type quietHandler struct{}

func (quietHandler) Start(*Loop)                               {}
func (quietHandler) Upgrade(*Conn, *wsproto.Head) int          { return 0 }
func (quietHandler) Open(*Conn, *wsproto.Head)                 {}
func (quietHandler) Message(*Conn, []byte)                     {}
func (quietHandler) Stream(*Conn, *wsproto.Head) bool          { return false }
func (quietHandler) Request(*Conn, *wsproto.Head, []byte) bool { return false }
func (quietHandler) Lagging(*Conn)                             {}
func (quietHandler) Closed(*Conn)                              {}
func (quietHandler) Iterate(*Loop)                             {}

func looseConn(l *Loop, fd int) *Conn {
	c := &Conn{loop: l, outbox: outbox{fd: int32(fd)}, state: stateOpen}
	l.table.add(c)
	return c
}

// stingySocket is a flusher whose sockets take what chance allows.
type stingySocket struct {
	rnd *rand.Rand
	got map[*Conn]*bytes.Buffer
}

func (s *stingySocket) flush(_ *Loop, batch []*Conn) {
	for _, c := range batch {
		for c.queued > 0 {
			all := slices.Concat(c.gather(make([][]byte, 0, 1+s.rnd.IntN(8)))...)
			n := len(all)
			if s.rnd.IntN(2) == 0 {
				n = s.rnd.IntN(n + 1)
			}
			s.got[c].Write(all[:n])
			c.dequeue(n, n < len(all))
			if n < len(all) {
				break
			}
		}
	}
}

// TestOutboxKeepsOrder sends frames of all sizes, adjacent and not, to sockets that take any part
// of them, and compares the bytes.
func TestOutboxKeepsOrder(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	l := looseLoop(t, 1<<20)
	s := &stingySocket{rnd, map[*Conn]*bytes.Buffer{}}
	l.output.flusher = s
	conns := make([]*Conn, 5)
	want := make([]bytes.Buffer, len(conns))
	for i := range conns {
		conns[i] = looseConn(l, -1)
		s.got[conns[i]] = new(bytes.Buffer)
	}
	seq := byte(0)
	frame := func() []byte {
		b := make([]byte, 1+rnd.IntN(1<<rnd.IntN(14)))
		for i := range b {
			seq++
			b[i] = seq
		}
		if rnd.IntN(3) > 0 {
			return l.arena.Copy(b)
		}
		return b
	}
	iterations := 30000
	if testing.Short() || raceEnabled {
		iterations = 3000
	}
	for range iterations {
		for range rnd.IntN(5) {
			f := frame()
			for i, c := range conns {
				if rnd.IntN(3) > 0 && c.state == stateOpen && c.Queued() < 500<<10 {
					c.Send(f)
					want[i].Write(f)
				}
			}
		}
		l.output.flush()
		l.now += lagMin
		l.wheel.Advance(l.now)
	}
	for range 2000 {
		l.output.flush()
		l.now += lagMax
		l.wheel.Advance(l.now)
	}
	for i, c := range conns {
		if c.queued != 0 || c.first != nil || c.more != nil {
			t.Errorf("connection %d: %d bytes are left", i, c.queued)
		}
		if !bytes.Equal(want[i].Bytes(), s.got[c].Bytes()) {
			t.Errorf("connection %d: %d bytes came out, other than the %d that went in", i, s.got[c].Len(), want[i].Len())
		}
	}
	if n := l.engine.metrics.Lagging.Load(); n != 0 {
		t.Errorf("%d connections are counted as lagging", n)
	}
}

func TestOutboxMergesAdjacentFrames(t *testing.T) {
	l := looseLoop(t, 1<<20)
	c, other := looseConn(l, -1), looseConn(l, -1)
	for i := range 10 {
		f := l.arena.Copy([]byte{byte(i)})
		c.Send(f)
		if i%2 == 0 {
			other.Send(f)
		}
	}
	if n := len(c.gather(make([][]byte, 0, 100))); n != 1 || c.more != nil {
		t.Errorf("adjacent frames are kept in %d slices", n)
	}
	if n := len(other.gather(make([][]byte, 0, 100))); n != 5 {
		t.Errorf("frames with gaps between them are kept in %d slices, want 5", n)
	}
	c.Send(l.arena.Copy([]byte{10}))
	c.Send(append(make([]byte, 0, 100), 11))
	c.Send(l.arena.Copy([]byte{12}))
	c.Send(l.arena.Copy([]byte{13}))
	if n := len(c.gather(make([][]byte, 0, 100))); n != 3 {
		t.Errorf("kept in %d slices, want 3", n)
	}
}

// TestLaggingOutboxIsCompact: a slow reader must not keep alive a chunk for each short frame.
func TestLaggingOutboxIsCompact(t *testing.T) {
	l := looseLoop(t, 1<<20)
	l.output.flusher = &stuckSocket{}
	c := looseConn(l, -1)
	c.Send([]byte("first"))
	l.output.flush()
	for range 1000 {
		c.Send(bytes.Repeat([]byte("x"), 100))
	}
	if n := len(c.more.bufs); n != 1000*100/(ownChunk/100*100)+1 {
		t.Errorf("1000 frames of 100 bytes are kept in %d slices", n)
	}
	large := make([]byte, copyBelow)
	c.Send(large)
	if last := c.more.bufs[len(c.more.bufs)-1]; &last[0] != &large[0] {
		t.Error("a large frame was copied")
	}
}

type stuckSocket struct{}

func (stuckSocket) flush(_ *Loop, batch []*Conn) {
	for _, c := range batch {
		c.dequeue(0, true)
	}
}

func TestOutboxBound(t *testing.T) {
	l := looseLoop(t, 1000)
	l.output.flusher = &stuckSocket{}
	c := looseConn(l, -1)
	c.Send(make([]byte, 5000)) // into an empty outbox: taken
	l.output.flush()
	if !c.Lagging() || c.Closing() {
		t.Fatal("does not lag")
	}
	c.Send(make([]byte, 1))
	if !c.Closing() || c.code != wsproto.CloseTryAgainLater {
		t.Error("the bound does not hold")
	}
	if n := l.engine.metrics.Overflows.Load(); n != 1 {
		t.Errorf("%d overflows counted, want 1", n)
	}
	before := c.Queued()
	c.Send(make([]byte, 10))
	if c.Queued() != before {
		t.Error("Send still queues")
	}
	// A connection that does not lag gets the chance to be written before it is judged.
	l.output.flusher = &stingySocket{rand.New(rand.NewPCG(5, 6)), map[*Conn]*bytes.Buffer{}}
	d := looseConn(l, -1)
	for i := range 100 {
		w := &stingySocket{rand.New(rand.NewPCG(0, uint64(i))), map[*Conn]*bytes.Buffer{d: new(bytes.Buffer)}}
		l.output.flusher = w
		if d.Lagging() || d.Closing() {
			break
		}
		d.Send(make([]byte, 400))
	}
	if d.Closing() && !d.Lagging() {
		t.Error("closed though its socket took everything")
	}
}

// TestSlowReader: a client that does not read lags, loses nothing if it reads again in time, and is
// closed with 1013 if it does not.
func TestSlowReader(t *testing.T) {
	s := serve(t, func(o *Options, _ *testHandler) {
		// How much time passes while the client reads is up to the scheduler.
		o.Limits.OutboxBytes, o.Limits.PingInterval, o.Limits.CloseTimeout = 256<<10, -1, 24*time.Hour
	})
	c, sc := s.connect()
	sent := 0
	send := func() {
		s.on(0, func(l *Loop) {
			b := l.arena.Begin()
			b = wsproto.AppendHeader(b, wsproto.OpText, 30000)
			for range 30000 {
				b = append(b, byte('a'+sent%26))
			}
			sc.Send(l.arena.Commit(b))
			sent++
		})
	}
	lagging := func() (is bool) {
		s.on(0, func(*Loop) { is = sc.Lagging() })
		return is
	}
	received := 0
	read := func() {
		op, b := c.frame()
		if op != wsproto.OpText || len(b) != 30000 || b[0] != byte('a'+received%26) {
			t.Fatalf("frame %d: type %d, %d bytes, %.3q", received, op, len(b), b)
		}
		received++
	}
	for !lagging() {
		send()
	}
	if s.m.Lagging.Load() != 1 || s.m.Lags.Load() != 1 {
		t.Error("not counted as lagging")
	}
	send()
	send()
	s.passing(func() {
		for received < sent {
			read()
		}
	})
	s.until("it lags no longer", func() bool { s.clock.Advance(lagMax); return !lagging() })
	if n := s.m.Lagging.Load(); n != 0 {
		t.Errorf("%d counted as lagging", n)
	}
	// Now it reads no more.
	closing := false
	for !closing {
		send()
		s.on(0, func(*Loop) { closing = sc.Closing() })
	}
	if s.m.Overflows.Load() != 1 {
		t.Error("the overflow is not counted")
	}
	s.passing(func() {
		for received < sent-1 { // the last one was refused
			read()
		}
		c.wantClose(1013) // behind all that was queued
	})
	c.send(closeFrame(1013))
	c.wantEOF()
	s.wantClosed(1013, CauseOutbox)
}

// TestDeadReader: one who never reads is gone when the close time-out has passed.
func TestDeadReader(t *testing.T) {
	s := serve(t, func(o *Options, _ *testHandler) { o.Limits.OutboxBytes = 64 << 10 })
	_, sc := s.connect()
	big := wsproto.AppendFrame(nil, wsproto.OpText, bytes.Repeat([]byte("x"), 32<<10))
	for closing := false; !closing; {
		s.on(0, func(*Loop) { sc.Send(big); closing = sc.Closing() })
	}
	s.advance(6e9)
	s.wantClosed(1013, CauseOutbox)
	s.sync()
	if n := s.m.Lagging.Load(); n != 0 {
		t.Errorf("%d connections are counted as lagging", n)
	}
}

// pair returns the descriptors of two connected sockets.
func pair(t testing.TB) (a, b int) {
	t.Helper()
	fds, err := socketpair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fds[0]); _ = unix.Close(fds[1]) })
	return fds[0], fds[1]
}

// moodySocket is one that takes nothing until it takes everything.
type moodySocket struct{ free bool }

func (s *moodySocket) flush(_ *Loop, batch []*Conn) {
	for _, c := range batch {
		if s.free {
			c.dequeue(int(c.queued), false)
		} else {
			c.dequeue(0, true)
		}
	}
}

// TestOutboxBoundAsksOnceMore: a client that has read everything since its socket was full is not
// closed for what comes before the timer would have tried it again.
func TestOutboxBoundAsksOnceMore(t *testing.T) {
	l := looseLoop(t, 1000)
	socket := &moodySocket{}
	l.output.flusher = socket
	c := looseConn(l, -1)
	c.Send(make([]byte, 900))
	l.output.flush()
	if !c.Lagging() {
		t.Fatal("does not lag")
	}
	socket.free = true
	c.Send(make([]byte, 900))
	if c.Closing() || c.Lagging() || c.Queued() != 900 {
		t.Errorf("closing %v, lagging %v, %d bytes queued", c.Closing(), c.Lagging(), c.Queued())
	}
}

// TestFull: a loop is full from when a client has much output that was not tried to be written,
// until the write queue has been written.
func TestFull(t *testing.T) {
	for _, size := range []int{1, 10_000} {
		l := looseLoop(t, 100_000)
		var conns []*Conn
		for range queueBatch + 1 {
			conns = append(conns, looseConn(l, -1))
		}
		l.output.flusher = &moodySocket{free: true}
		frames := 0
		for ; !l.Full() && frames < 1000; frames++ {
			for _, c := range conns {
				c.Send(make([]byte, size))
			}
		}
		if want := map[int]int{1: manySlices + 1, 10_000: 3}[size]; frames != want {
			t.Errorf("full after %d frames of %d bytes, want %d", frames, size, want)
		}
		l.output.flush()
		if !l.Full() {
			t.Error("not full though a connection waits for its write")
		}
		l.output.flush()
		if l.Full() {
			t.Error("full after all have been written")
		}
	}
}
