package netpoll

import (
	"bytes"
	"container/list"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sluice/internal/owner"
	"sluice/netpoll/tlsrecord"
)

// crypto/tls waits for the peer during a handshake, so each handshake needs a goroutine, a worker.
// The loop reads and writes for it. At most Limits.MaxHandshakes workers exist, and
// Limits.HandshakeQueue connections wait for one; further connections are closed. A connection asks
// for a worker once its whole ClientHello has been received, so one that sends nothing, or sends
// slowly, costs a timer and the bytes that it has sent. Few workers compute at a time; the others
// wait for their peers or for a slot. With thousands of runnable workers, an event loop would get a
// thousandth of the processor. Handshakes whose client has replied have slots of their own, so they
// do not queue after those that have yet to begin.
//
// Peers that stop sending cannot hold the workers: when all are taken, the handshake that has
// waited longest for its peer is aborted for each new one.

const (
	maxHello   = 16 << 10 // bytes of a ClientHello, and of the input with it
	maxWaiting = 1 << 20  // bytes of sealed input buffered until the worker reports the end of the handshake
)

// handshakes are the workers of an engine. Any goroutine may use them.
type handshakes struct {
	// Fixed after construction.
	config       *tls.Config
	clock        owner.Clock
	firstFlight  chan struct{} // semaphore of the workers that compute the first flight
	laterFlights chan struct{} // semaphore of those that have waited for the peer since

	mu         sync.Mutex
	max        int       // workers; guarded by mu, as all that follows
	maxQueue   int       // handshakes in queue
	workers    int       // that exist
	queue      list.List // of *handshake: they have no worker yet
	idle       list.List // of *handshake: their workers wait for the peer, longest first
	reclaiming int       // handshakes that are being aborted for others
	alarm      owner.Alarm
	armed      bool // whether alarm is

	faults *owner.Faults // fixed
}

func newHandshakes(o *Options) *handshakes {
	// A flush should be one record, not several of growing size.
	config := o.TLS.Clone()
	config.DynamicRecordSizingDisabled = true
	if o.HTTP == nil {
		config.NextProtos = slices.DeleteFunc(slices.Clone(config.NextProtos), func(p string) bool { return p == protoH2 })
	}
	computing := runtime.GOMAXPROCS(0)
	p := &handshakes{
		config:       config,
		clock:        o.Clock,
		firstFlight:  make(chan struct{}, computing),
		laterFlights: make(chan struct{}, computing),
		max:          o.Limits.MaxHandshakes,
		maxQueue:     o.Limits.HandshakeQueue,
		faults:       o.Faults,
	}
	p.alarm = o.Clock.AfterFunc(time.Hour, p.alarmed)
	p.alarm.Stop()
	return p
}

// adjust changes how many workers there may be, and how long the queue. Workers beyond that end
// with their handshakes.
func (p *handshakes) adjust(workers, queue int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.max, p.maxQueue = workers, queue
	for p.workers < p.max && p.queue.Len() > 0 {
		p.workers++
		go p.work(p.next())
	}
}

// next removes the first of the queue, nil if it is empty. p.mu is held.
func (p *handshakes) next() *handshake {
	first := p.queue.Front()
	if first == nil {
		return nil
	}
	h := p.queue.Remove(first).(*handshake)
	h.queued = nil
	return h
}

// take starts or queues h; it returns false if all workers and the queue are taken.
func (p *handshakes) take(h *handshake) bool {
	p.mu.Lock()
	if p.workers < p.max {
		p.workers++
		p.mu.Unlock()
		go p.work(h)
		return true
	}
	ok := p.queue.Len() < p.maxQueue || p.longestIdle() != nil // its worker is about to be free
	if ok {
		h.queued = p.queue.PushBack(h)
	}
	p.mu.Unlock()
	p.reclaim()
	return ok
}

// handshakeIdleMin is how long a peer may be idle while others wait for a worker: longer than most
// take to reply.
const handshakeIdleMin = 100 * time.Millisecond

// longestIdle returns the handshake that has waited longest for its peer, if it has waited long
// enough to be aborted. p.mu
// is held.
func (p *handshakes) longestIdle() *handshake {
	if first := p.idle.Front(); first != nil {
		if h := first.Value.(*handshake); p.clock.Now()-h.idleSince >= handshakeIdleMin {
			return h
		}
	}
	return nil
}

// reclaim aborts an idle handshake for each queued one, longest idle first. If there are too few,
// the alarm calls it again.
func (p *handshakes) reclaim() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.queue.Len() > p.reclaiming {
		h := p.longestIdle()
		if h == nil {
			if p.idle.Len() > 0 && !p.armed {
				p.armed = true
				p.alarm.Reset(handshakeIdleMin)
			}
			return
		}
		p.idle.Remove(h.idle)
		h.idle = nil
		h.reclaiming = true
		p.reclaiming++
		go h.reclaim() // not here: h.mu may be held by a worker that waits for p.mu
	}
}

// alarmed is called by the alarm.
func (p *handshakes) alarmed() {
	defer p.faults.Contain(owner.Alarms)
	p.mu.Lock()
	p.armed = false
	p.mu.Unlock()
	p.reclaim()
}

// beginWait notes that h's worker waits for the peer.
func (p *handshakes) beginWait(h *handshake) {
	p.mu.Lock()
	h.idle, h.idleSince = p.idle.PushBack(h), p.clock.Now()
	p.mu.Unlock()
	p.reclaim()
}

// endWait notes that h's worker waits no longer.
func (p *handshakes) endWait(h *handshake) {
	p.mu.Lock()
	if h.idle != nil {
		p.idle.Remove(h.idle)
		h.idle = nil
	}
	p.mu.Unlock()
}

// work runs h and then queued handshakes, until none is queued.
func (p *handshakes) work(h *handshake) {
	for h != nil {
		h.run(p)
		p.mu.Lock()
		if h.reclaiming {
			p.reclaiming--
		}
		if h = nil; p.workers <= p.max {
			h = p.next()
		}
		if h == nil {
			p.workers--
		}
		p.mu.Unlock()
	}
}

// leave removes h from the queue.
func (p *handshakes) leave(h *handshake) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if h.queued != nil {
		p.queue.Remove(h.queued)
		h.queued = nil
	}
}

// handshake is one TLS handshake, shared by a loop and a worker.
type handshake struct {
	// Fixed.
	link          *tlsLink
	local, remote net.Addr

	queued     *list.Element // in the queue; guarded by handshakes.mu
	idle       *list.Element // in handshakes.idle; guarded by handshakes.mu
	idleSince  time.Duration // since when; guarded by handshakes.mu
	reclaiming bool          // it is being aborted for another; guarded by handshakes.mu

	// Owned by the loop.
	conn     *Conn // nil: the loop has given the handshake up, or it is done
	answered bool  // the worker has sent something: the peer may send data after its part of the handshake

	// Owned by the worker.
	pool *handshakes
	slot chan struct{} // to be released; nil: none

	mu        sync.Mutex
	cond      sync.Cond // in has grown, or aborted or ended is set
	in        []byte    // input that the worker has not read
	aborted   bool
	ended     bool // the peer has ended its input
	reclaimed bool // aborted for another; aborted is set, too
}

// handshakeEvent is a message from a worker to the loop.
type handshakeEvent struct {
	h    *handshake
	out  []byte    // to be written
	done bool      // the handshake has ended:
	conn *tls.Conn // with this result
	err  error     // or this one
}

// run does the handshake on the worker.
func (h *handshake) run(p *handshakes) {
	h.pool = p
	conn := tls.Server(h.link, p.config)
	err := p.contained(func() error {
		h.acquire(p.firstFlight)
		return conn.Handshake()
	})
	h.release()
	h.link.loop.tls.mail.Put(handshakeEvent{h: h, done: true, conn: conn, err: err})
}

var errHandshakeFault = errors.New("the handshake panicked")

// contained calls handshake; a panic is its error.
func (p *handshakes) contained(handshake func() error) (err error) {
	err = errHandshakeFault
	defer p.faults.Contain(owner.Handshake)
	return handshake()
}

// acquire waits for a slot to compute.
func (h *handshake) acquire(slot chan struct{}) {
	slot <- struct{}{}
	h.slot = slot
}

// release frees the slot.
func (h *handshake) release() {
	if h.slot != nil {
		<-h.slot
		h.slot = nil
	}
}

// read is tlsLink.Read on the worker. It waits for input.
func (h *handshake) read(p []byte) (int, error) {
	h.mu.Lock()
	if len(h.in) == 0 && !h.aborted && !h.ended {
		h.release()
		h.pool.beginWait(h)
		for len(h.in) == 0 && !h.aborted && !h.ended {
			h.cond.Wait()
		}
		h.mu.Unlock() // the loop must not wait for the locks and slots below
		h.pool.endWait(h)
		h.acquire(h.pool.laterFlights)
		h.mu.Lock()
	}
	defer h.mu.Unlock()
	if h.aborted {
		return 0, net.ErrClosed
	}
	if len(h.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p, h.in)
	h.in = h.in[n:]
	return n, nil
}

// write is tlsLink.Write on the worker. It does not wait, because a handshake writes little.
func (h *handshake) write(p []byte) (int, error) {
	h.link.loop.tls.mail.Put(handshakeEvent{h: h, out: bytes.Clone(p)})
	return len(p), nil
}

// feed passes the peer's bytes to the worker. It returns how many bytes the worker has not read,
// and whether they are within the bound.
func (h *handshake) feed(b []byte) (unread int, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	most := maxHello
	if h.answered {
		most = maxWaiting
	}
	if len(h.in)+len(b) > most {
		return len(h.in), false
	}
	h.in = append(h.in, b...)
	h.cond.Signal()
	return len(h.in), true
}

// end notes that the peer has ended its input. The handshake may still succeed.
func (h *handshake) end() {
	h.mu.Lock()
	h.ended = true
	h.cond.Signal()
	h.mu.Unlock()
}

// abort ends the handshake early.
func (h *handshake) abort() {
	h.mu.Lock()
	h.aborted = true
	h.cond.Signal()
	h.mu.Unlock()
}

// reclaim aborts the handshake in favour of another, unless input has arrived just now.
func (h *handshake) reclaim() {
	defer h.pool.faults.Contain(owner.Handshake)
	h.mu.Lock()
	arrived := len(h.in) > 0
	if !arrived {
		h.reclaimed = !h.aborted
		h.aborted = true
		h.cond.Signal()
	}
	h.mu.Unlock()
	if p := h.pool; arrived {
		p.mu.Lock()
		h.reclaiming = false
		p.reclaiming--
		p.mu.Unlock()
		p.reclaim()
	}
}

// handshakeInput handles bytes of the peer until the handshake is done.
func (c tlsConn) handshakeInput(b []byte) {
	t, e := c.link(), c.loop.engine
	if t.hs != nil {
		unread, ok := t.hs.feed(b)
		switch {
		case !ok:
			c.endHandshake(&e.metrics.TLSFailed)
			c.scheduleClose()
		case unread > maxHello && !c.readPaused:
			// A TLS 1.3 client sends data right after its Finished, before the worker has read
			// that. The rest stays in the socket until the handshake is done.
			c.readPaused = c.loop.wait.watch(c.Conn, false)
		}
		return
	}
	b = t.in.add(b)
	complete, ok := tlsrecord.ClientHello(b, maxHello)
	switch {
	case !ok:
		c.endHandshake(&e.metrics.TLSFailed)
		if looksLikeHTTP(b) {
			c.dropTLS()
			c.http().refuse(c.http().response(http.StatusBadRequest, "", "this port speaks HTTPS\n"))
			return
		}
		c.scheduleClose()
	case complete:
		h := &handshake{link: t, conn: c.Conn, in: bytes.Clone(b), local: c.gc.LocalAddr(), remote: c.gc.RemoteAddr()}
		if a := c.http().handedAddr(); a.IsValid() {
			h.remote = net.TCPAddrFromAddrPort(a)
		}
		h.cond.L = &h.mu
		t.hs = h
		t.in.drop()
		if !e.handshakes.take(h) {
			c.endHandshake(&e.metrics.TLSRefused)
			c.scheduleClose()
		}
	}
}

// endHandshake counts how a handshake ended, and aborts it if a worker has it.
func (c tlsConn) endHandshake(how *atomic.Uint64) {
	t := c.link()
	how.Add(1)
	t.handshaking = false
	c.loop.engine.metrics.TLSHandshaking.Add(-1)
	if h := t.hs; h != nil && h.conn != nil {
		h.conn = nil
		h.abort()
		c.loop.engine.handshakes.leave(h)
	}
}

// drainHandshakes handles the events from handshake workers. s is nil without TLS.
func (s *tlsLoop) drainHandshakes() {
	if s != nil {
		s.mail.Drain(0, handleHandshakeEvent)
	}
}

func handleHandshakeEvent(n handshakeEvent) {
	c := n.h.conn
	if c == nil || c.state != stateTLS {
		return
	}
	c.loop.iter.conn = c
	if n.done {
		c.tls().handshakeDone(n)
		return
	}
	n.h.answered = true
	c.link().out.add(n.out)
	if !c.Lagging() {
		c.markDirty()
	}
}

// handshakeDone handles the result of a handshake.
func (c tlsConn) handshakeDone(n handshakeEvent) {
	l, t := c.loop, c.link()
	m := l.engine.metrics
	if n.err != nil {
		how := &m.TLSFailed
		if n.h.reclaimed { // the worker has ended, so this needs no lock
			how = &m.TLSSilent
		}
		c.endHandshake(how)
		c.scheduleClose()
		return
	}
	n.h.conn = nil
	c.endHandshake(&m.TLSDone)
	t.conn, t.hs = n.conn, nil
	dropBuffers(t.conn)
	state := t.conn.ConnectionState()
	if state.DidResume {
		m.TLSResumed.Add(1)
	}
	c.to(stateHead)
	if c.readPaused {
		c.readPaused = !l.wait.watch(c.Conn, true)
	}
	if state.NegotiatedProtocol == protoH2 {
		m.TLSH2.Add(1)
		l.tls.rest = n.h.in
		c.http().handover(nil)
		return
	}
	c.takeRecords()
	l.wheel.Expect(&c.timer, l.now+l.opts.Limits.HeadTimeout, c.Conn)
	if len(n.h.in) > 0 {
		c.unseal(n.h.in)
	}
	if c.flags&flagEnded != 0 {
		if c.ending().afterInputEnd(); !c.ending().owesOutput() {
			c.scheduleClose()
		}
	}
}

// looksLikeHTTP reports whether a client sends plain HTTP instead of TLS.
func looksLikeHTTP(b []byte) bool {
	for _, method := range [...]string{"GET ", "HEAD ", "POST ", "PUT ", "DELETE ", "PATCH ", "OPTIONS "} {
		if bytes.HasPrefix(b, []byte(method)) {
			return true
		}
	}
	return false
}
