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

// A handshake is a conversation in which crypto/tls waits for the peer, so it takes a goroutine, a
// worker. The loop reads and writes for it. There are Limits.MaxHandshakes workers at most, and
// Limits.HandshakeQueue connections that wait for one; beyond, connections are closed. A connection
// asks for a worker when its whole ClientHello is there, so one that says nothing, or says it
// slowly, costs a timer and what it has sent. Few workers compute at a time, the others wait for
// their peers or for their iteration: were thousands of them ready to run, an event loop would be
// one of thousands, too. Those that have had the peer's answer do not queue behind those that have
// yet to begin: their clients are sending already.
//
// A worker that waits for its peer is not kept from others by a peer that says nothing more: when
// all workers are taken, the handshake that has waited longest for its peer is given up for each
// one that comes.

const (
	maxHello   = 16 << 10 // bytes of a ClientHello and of what comes with it
	maxWaiting = 1 << 20  // sealed input that waits for a worker to say that the handshake is done
)

// handshakes are the workers of an engine. Any goroutine may use it.
type handshakes struct {
	// Fixed after construction.
	config       *tls.Config
	clock        owner.Clock
	firstFlight  chan struct{} // holds an element per worker that computes the first answer
	laterFlights chan struct{} // the same, for those that have waited for the peer since

	mu         sync.Mutex
	workers    int       // there are
	queue      list.List // of *handshake: have no worker yet
	idle       list.List // of *handshake: their workers wait for the peer, the longest first
	reclaiming int       // handshakes that are being given up
	alarm      owner.Alarm
	armed      bool // alarm is

	max, maxQueue int // fixed
	faults        *owner.Faults
}

func newHandshakes(o *Options) *handshakes {
	// A flush is to be one record, not several of a growing size.
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

// take finds a worker for h, or a place in the queue; false: both are full.
func (p *handshakes) take(h *handshake) bool {
	p.mu.Lock()
	if p.workers < p.max {
		p.workers++
		p.mu.Unlock()
		go p.work(h)
		return true
	}
	ok := p.queue.Len() < p.maxQueue || p.longestIdle() != nil // whose worker is about to be free
	if ok {
		h.queued = p.queue.PushBack(h)
	}
	p.mu.Unlock()
	p.reclaim()
	return ok
}

// handshakeIdleMin is how long a peer may be silent though others wait for a worker: longer than
// most take to answer.
const handshakeIdleMin = 100 * time.Millisecond

// longestIdle returns the handshake that has waited longest for its peer, if that is too long. p.mu
// is held.
func (p *handshakes) longestIdle() *handshake {
	if first := p.idle.Front(); first != nil {
		if h := first.Value.(*handshake); p.clock.Now()-h.idleSince >= handshakeIdleMin {
			return h
		}
	}
	return nil
}

// reclaim gives up a handshake for each one that waits for a worker, as far as there are any that
// have waited for their peers too long, and sees to it that it is called again when there may be.
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
		go h.reclaim() // its lock is held while ours is waited for
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

// endWait notes that it does so no longer.
func (p *handshakes) endWait(h *handshake) {
	p.mu.Lock()
	if h.idle != nil {
		p.idle.Remove(h.idle)
		h.idle = nil
	}
	p.mu.Unlock()
}

// work does handshakes until none waits.
func (p *handshakes) work(h *handshake) {
	for h != nil {
		h.run(p)
		p.mu.Lock()
		if h.reclaiming {
			p.reclaiming--
		}
		if first := p.queue.Front(); first != nil {
			h = p.queue.Remove(first).(*handshake)
			h.queued = nil
		} else {
			h = nil
			p.workers--
		}
		p.mu.Unlock()
	}
}

// leave takes h out of the queue.
func (p *handshakes) leave(h *handshake) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if h.queued != nil {
		p.queue.Remove(h.queued)
		h.queued = nil
	}
}

// handshake is one between a loop and a worker.
type handshake struct {
	// Fixed.
	link          *tlsLink
	local, remote net.Addr

	queued     *list.Element // in the queue; guarded by handshakes.mu
	idle       *list.Element // among the silent; guarded by handshakes.mu
	idleSince  time.Duration // when it came there; guarded by handshakes.mu
	reclaiming bool          // it is being given up; guarded by handshakes.mu

	// Owned by the loop.
	conn     *Conn // nil: nobody is interested any more
	answered bool  // something was sent: from now on the peer may send more than the handshake needs

	// Owned by the worker.
	pool *handshakes
	slot chan struct{} // to be released; nil: none

	mu        sync.Mutex
	cond      sync.Cond // in has grown, or gone is set
	in        []byte    // input that the worker has not taken
	aborted   bool
	ended     bool // the peer has shut its side down
	reclaimed bool // given up for another; then gone, too
}

// handshakeEvent is what a worker tells the loop.
type handshakeEvent struct {
	h    *handshake
	out  []byte    // to be written
	done bool      // the handshake has ended:
	conn *tls.Conn // with this result
	err  error     // or this one
}

// run is the worker's part.
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

// contained does a handshake; a panic ends that alone.
func (p *handshakes) contained(handshake func() error) (err error) {
	err = errHandshakeFault
	defer p.faults.Contain(owner.Handshake)
	return handshake()
}

// acquire waits for the permission to compute.
func (h *handshake) acquire(slot chan struct{}) {
	slot <- struct{}{}
	h.slot = slot
}

// release lets another worker compute.
func (h *handshake) release() {
	if h.slot != nil {
		<-h.slot
		h.slot = nil
	}
}

// read is called by the worker. It waits.
func (h *handshake) read(p []byte) (int, error) {
	h.mu.Lock()
	if len(h.in) == 0 && !h.aborted && !h.ended {
		h.release()
		h.pool.beginWait(h)
		for len(h.in) == 0 && !h.aborted && !h.ended {
			h.cond.Wait()
		}
		h.mu.Unlock() // the loop must not wait for what this waits for
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

// write is called by the worker. It does not wait: a handshake has few things to say.
func (h *handshake) write(p []byte) (int, error) {
	h.link.loop.tls.mail.Put(handshakeEvent{h: h, out: bytes.Clone(p)})
	return len(p), nil
}

// feed passes the peer's bytes on to the worker. It returns how many the worker has not read yet,
// and whether these are within the bound.
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

// end notes that nothing more comes from the peer. What has come may be enough.
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

// reclaim ends the handshake in favour of another, unless the peer has spoken just now.
func (h *handshake) reclaim() {
	defer h.pool.faults.Contain(owner.Handshake)
	h.mu.Lock()
	spoken := len(h.in) > 0
	if !spoken {
		h.reclaimed = !h.aborted
		h.aborted = true
		h.cond.Signal()
	}
	h.mu.Unlock()
	if p := h.pool; spoken {
		p.mu.Lock()
		h.reclaiming = false
		p.reclaiming--
		p.mu.Unlock()
		p.reclaim()
	}
}

// handshakeInput takes bytes of the peer until the handshake is done.
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

// endHandshake counts how a handshake ended, and ends it if a worker has it.
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

// handshakeDone ends the handshake.
func (c tlsConn) handshakeDone(n handshakeEvent) {
	l, t := c.loop, c.link()
	m := l.engine.metrics
	if n.err != nil {
		how := &m.TLSFailed
		if n.h.reclaimed { // the worker has ended: nobody else has it
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

// looksLikeHTTP reports whether a client speaks HTTP where TLS is spoken.
func looksLikeHTTP(b []byte) bool {
	for _, method := range [...]string{"GET ", "HEAD ", "POST ", "PUT ", "DELETE ", "PATCH ", "OPTIONS "} {
		if bytes.HasPrefix(b, []byte(method)) {
			return true
		}
	}
	return false
}
