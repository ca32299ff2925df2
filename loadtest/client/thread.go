//go:build linux

package client

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"runtime"

	"golang.org/x/sys/unix"

	"sluice/loadtest/hist"
)

// Thread is one epoll loop with its connections. Only its own goroutine uses it, except
// for post and do.
type Thread struct {
	// Fixed after construction.
	cfg     Config // its Addr, and to, change by move
	to      netip.AddrPort
	driver  Driver
	streams bool   // clients read event streams
	get     []byte // the HTTP request
	epoll   int
	wake    int
	posted  chan func()
	ended   chan struct{}

	// Owned by the loop.
	conns     []Conn
	connectAt int64 // when connecting began; 0: not yet
	next      int   // first connection without a connect
	opening   int   // connects in flight: neither ready nor failed
	resumed   bool  // slow clients read like others
	stop      bool
	slowTick  int64
	load      *load
	now       int64  // when the last read returned
	seed      uint32 // of masking keys
	inflated  inflateCache
	away      []absence // clients that are to connect again: a heap, the first of which is due next

	// Counted since the phase began, except for the gauges of Counters.
	phase int64
	count Counters
	hists [Kinds]*hist.Hist

	// Scratch, valid until its next use.
	buf     []byte
	scratch []byte
	wire    []byte
	topics  []int
}

const (
	slotWake  = -1         // epoll data of the wake descriptor
	slowEvery = 50_000_000 // ns between two reads of a slow client

	// pollEvery is the least time in ns between two polls of the sockets while clients
	// receive events and do nothing else. A server on the same machine pays for waking a
	// thread that blocks in epoll_wait: up to a fifth of a delivery's cost, which no server
	// with remote clients pays. A thread that sleeps is not woken by sockets.
	pollEvery = 250_000
)

func newThread(cfg Config, to netip.AddrPort, number int) (*Thread, error) {
	t := &Thread{cfg: cfg, to: to, posted: make(chan func(), 1024), ended: make(chan struct{}), seed: uint32(number)*2654435761 + 12345, buf: make([]byte, 256<<10), epoll: -1, wake: -1}
	var err error
	if t.driver, err = NewDriver(cfg.Protocol, cfg.Path); err != nil {
		return nil, err
	}
	t.streams = cfg.streaming()
	t.get = []byte("GET " + cfg.HTTPTarget + " HTTP/1.1\r\nHost: " + cfg.Addr + "\r\nAccept: application/json\r\n")
	if cfg.Token != "" {
		t.get = append(append(append(t.get, "Authorization: Bearer "...), cfg.Token...), crlf...)
	}
	t.get = append(t.get, crlf...)
	for k := range t.hists {
		t.hists[k] = hist.New()
	}
	for i := number; i < cfg.Count; i += cfg.Threads {
		index := int32(cfg.First + i)
		t.conns = append(t.conns, Conn{t: t, slot: int32(len(t.conns)), index: index, fd: -1, slow: cfg.IsSlow(int(index))})
	}
	for i := range t.conns { // the slice has its final size
		t.conns[i].t = t
	}
	if t.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	if t.wake, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		t.release()
		return nil, err
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: slotWake}
	if err := unix.EpollCtl(t.epoll, unix.EPOLL_CTL_ADD, t.wake, &ev); err != nil {
		t.release()
		return nil, err
	}
	t.phase = Now()
	return t, nil
}

func (t *Thread) release() {
	for _, fd := range []int{t.epoll, t.wake} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// post makes the thread run f. Any goroutine may call it. f does not run if the thread has
// ended.
func (t *Thread) post(f func()) {
	select {
	case t.posted <- f:
	case <-t.ended:
		return
	}
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	_, _ = unix.Write(t.wake, one[:])
}

// do runs f on the thread and waits for it.
func (t *Thread) do(f func()) error {
	done := make(chan struct{})
	t.post(func() { f(); close(done) })
	select {
	case <-done:
		return nil
	case <-t.ended:
		return errors.New("the client thread has ended")
	}
}

// run is the loop. It returns after stop is set.
func (t *Thread) run() {
	runtime.LockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) // without it, sleeps are less exact
	defer func() {
		for i := range t.conns {
			t.conns[i].drop()
		}
		close(t.ended)
		t.release()
	}()
	events := make([]unix.EpollEvent, 1024)
	for !t.stop {
		n, err := epollWait(t.epoll, events, t.timeout())
		if err != nil {
			t.count.LastError = "epoll: " + err.Error()
			return
		}
		began, before := Now(), t.count.Deliveries
		for _, ev := range events[:n] {
			if ev.Fd == slotWake {
				t.runPosted()
			} else {
				t.event(&t.conns[ev.Fd], ev.Events)
			}
		}
		now := Now()
		t.connectMore(now)
		t.connectAgain(now)
		t.readSlow(now)
		if t.load != nil {
			t.load.run(now)
			if t.load.over(now) {
				t.load.finish()
				t.load = nil
			}
		}
		if t.count.Deliveries > before && t.load == nil && t.opening == 0 {
			sleepUntil(began + pollEvery)
		}
	}
}

// timeout returns how long the loop may block, in nanoseconds; negative: without limit.
func (t *Thread) timeout() int64 {
	at := int64(1<<63 - 1)
	if t.load != nil {
		at = t.load.wake()
	}
	if t.connectAt > 0 && t.next < len(t.conns) && t.opening < t.cfg.Inflight {
		at = min(at, t.connectDue())
	}
	if len(t.away) > 0 {
		at = min(at, t.away[0].until)
	}
	if t.cfg.Slow > 0 && t.cfg.SlowRate > 0 && !t.resumed {
		at = min(at, t.slowTick+slowEvery)
	}
	if at == 1<<63-1 {
		return -1
	}
	return max(at-Now(), 0)
}

// runPosted acks the wake-up, then runs the posted functions.
func (t *Thread) runPosted() {
	var b [8]byte
	_, _ = unix.Read(t.wake, b[:])
	for {
		select {
		case f := <-t.posted:
			f()
		default:
			return
		}
	}
}

// event handles what epoll reports of a connection.
func (t *Thread) event(c *Conn, events uint32) {
	switch c.state {
	case stateNone, stateSecuring:
		return
	case stateConnecting:
		if events&(unix.EPOLLOUT|unix.EPOLLERR|unix.EPOLLHUP) == 0 {
			return
		}
		if err := socketError(c.fd); err != nil {
			c.fail(err)
			return
		}
		if t.cfg.TLS {
			c.startSecuring()
		} else {
			c.opened()
		}
		return
	}
	if events&unix.EPOLLOUT != 0 {
		c.writable()
	}
	if events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		c.readable(events)
	}
}

// connectDue returns when the next connection is due; 0: now.
func (t *Thread) connectDue() int64 {
	if t.cfg.ConnectRate <= 0 {
		return 0
	}
	return t.connectAt + int64(float64(t.next)*1e9*float64(t.cfg.Threads)/t.cfg.ConnectRate)
}

// connectMore starts the connects that are due, up to the limit in flight. Without a rate
// a connection is due when the limit admits it.
func (t *Thread) connectMore(now int64) {
	for t.connectAt > 0 && t.next < len(t.conns) && t.opening < t.cfg.Inflight {
		due := t.connectDue()
		if due > now {
			return
		}
		if due == 0 {
			due = Now()
		}
		c := &t.conns[t.next]
		t.next++
		t.dial(c, due)
	}
}

// dial starts to connect a client that was due to connect.
func (t *Thread) dial(c *Conn, due int64) {
	fd, err := dial(t.to, int(c.index))
	if err != nil {
		t.count.Failed++
		t.count.LastError = err.Error()
		t.comeBack(c)
		return
	}
	*c = Conn{t: t, slot: c.slot, index: c.index, slow: c.slow, fd: fd, state: stateConnecting, due: due, kept: c.kept}
	t.opening++
	t.count.Open++
	if c.slow { // else the kernel buffers a backlog for it
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096)
	}
	const edges = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET
	ev := unix.EpollEvent{Events: edges & 0xffffffff, Fd: c.slot}
	if err := unix.EpollCtl(t.epoll, unix.EPOLL_CTL_ADD, int(fd), &ev); err != nil {
		c.fail(err)
	}
}

// readSlow lets each slow client read at its rate.
func (t *Thread) readSlow(now int64) {
	if t.cfg.Slow == 0 || t.cfg.SlowRate == 0 || t.resumed || now < t.slowTick+slowEvery {
		return
	}
	t.slowTick = now
	share := max(t.cfg.SlowRate*slowEvery/1e9, 1)
	b := make([]byte, share)
	for i := range t.conns {
		c := &t.conns[i]
		if !c.slow || c.state != stateReady || c.secure != nil {
			continue
		}
		n, err := readSocket(c.fd, b)
		switch {
		case err == unix.EAGAIN:
		case err != nil:
			c.fail(err)
		case n == 0:
			c.fail(errEnded)
		default:
			t.count.Reads++
			t.count.Bytes += int64(n)
			t.now = now
			c.feed(append(append(t.buf[:0], c.partial...), b[:n]...))
		}
	}
}

// resume lets slow clients read their backlog, and from then on like others.
func (t *Thread) resume() {
	t.resumed = true
	for i := range t.conns {
		if c := &t.conns[i]; c.slow && c.state == stateReady {
			c.readable(unix.EPOLLRDHUP)
		}
	}
}

// connect starts to connect all clients.
func (t *Thread) connect() {
	t.connectAt, t.next = Now(), 0
	t.connectMore(t.connectAt)
}

// dropAll closes all connections.
func (t *Thread) dropAll() {
	t.connectAt, t.opening, t.load, t.away = 0, 0, nil, nil
	for i := range t.conns {
		t.conns[i].drop()
	}
}

// move closes all connections; later ones are to another server.
func (t *Thread) move(to netip.AddrPort, addr string) {
	t.dropAll()
	t.to, t.cfg.Addr = to, addr
}

// begin begins a phase: counters start at zero, and events that were due before it are
// stale.
func (t *Thread) begin(at int64) {
	t.phase = at
	c := &t.count
	t.count = Counters{Open: c.Open, Ready: c.Ready, Slow: c.Slow, Waiting: c.Waiting}
	for _, h := range t.hists {
		h.Reset()
	}
	for i := range t.conns {
		t.conns[i].received, t.conns[i].lastDue = 0, 0
	}
}

// nextKey returns a masking key: a step of xorshift32, which is all that a client
// without an adversary on the path needs (RFC 6455 §5.3).
func (t *Thread) nextKey() (key [4]byte) {
	t.seed ^= t.seed << 13
	t.seed ^= t.seed >> 17
	t.seed ^= t.seed << 5
	binary.LittleEndian.PutUint32(key[:], t.seed)
	return key
}

// take returns the counters, and the latencies since the last call.
func (t *Thread) take(perClient bool) Sample {
	s := Sample{Count: t.count, Hists: map[string]hist.Sparse{}}
	if perClient {
		t.recordPauses()
	}
	for k, h := range t.hists {
		if h.Count() > 0 {
			s.Hists[Kind(k).String()] = h.Sparse()
			h.Reset()
		}
	}
	if perClient {
		first := true
		for i := range t.conns {
			c := &t.conns[i]
			if c.slow || c.state != stateReady {
				continue
			}
			if first || c.received < s.Count.Fewest {
				s.Count.Fewest = c.received
			}
			if first || c.lastDue < s.Count.Oldest {
				s.Count.Oldest = c.lastDue
			}
			s.Count.Most = max(s.Count.Most, c.received)
			first = false
		}
	}
	return s
}
