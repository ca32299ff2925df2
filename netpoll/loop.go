package netpoll

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"

	"sluice/internal/owner"
	"sluice/pool"
	"sluice/wsproto"
)

// tick is what deadlines are rounded up to.
const tick = 5 * time.Millisecond

// Loop is an event loop: the owner of its connections and of all that the Handler keeps for them.
// Only Wake, Index and Clock may be used outside of calls to the Handler.
//
// Its state is split by role. Each part is a type of its own with the file that its comment names,
// and only the loop's goroutine touches it, except where it says otherwise.
type Loop struct {
	// Data is the Handler's.
	Data any

	// Fixed after New.
	engine *Engine
	index  int
	clock  owner.Clock
	tls    *tlsLoop // tls.go; nil: plaintext

	measured *LoopMetrics // load.go; written by the loop only

	opts *Options // the engine's, until Adjust replaces it; what it points to is never written

	// Time.
	now    time.Duration
	wheel  *owner.Wheel
	ticker *owner.Ticker

	// An iteration, step by step.
	iter       iteration  // iteration.go, fault.go
	output     output     // flush.go
	slow       slowList   // slow.go
	reaper     reaper     // reap.go
	resumption resumption // resume.go
	drain      drain      // drain.go
	stats      stats      // metrics.go
	timing     timing     // load.go
	arena      pool.Arena
	started    bool // Handler.Start was called
	behind     bool // see Behind

	// Connections.
	el       gnet.EventLoop // of the gnet that runs now
	table    table          // handle.go
	held     int            // connections that the Handler knows
	acceptor acceptor       // accept.go
	pace     pace           // pace.go
	evictor  evictor        // evict.go
	half     halfClosed     // half.go
	inflater inflater       // inflate.go
	throttle throttle       // meter.go

	// State that few connections have, by slot.
	bodies  map[uint32]int            // bytes of a request whose body is incomplete, head included
	proxied map[uint32]netip.AddrPort // client addresses from proxies
	lingers map[uint32]lingering      // linger.go
	causes  map[uint32]Cause          // cause.go
	acked   map[uint32]uint64         // bytes that a peer had acknowledged when its pong was late

	// Scratch.
	head       wsproto.Head // of the request that is parsed
	acceptHead wsproto.Head // of Conn.Accept, which may be called while head is in use
	deciding   decision     // of the Handler.Upgrade in progress

	// Shared with the goroutines that wake the loop.
	taken atomic.Bool // bound to an event loop of gnet
	wait  waiting     // wait.go
}

func newLoop(e *Engine, index int) *Loop {
	l := &Loop{engine: e, index: index, clock: e.opts.Clock, opts: &e.opts, measured: new(LoopMetrics)}
	l.now = l.clock.Now()
	l.wheel = owner.NewWheel(tick, l.now)
	l.ticker = owner.NewTicker(l.clock, l.wheel, l.Wake)
	l.iter.loop, l.reaper.loop, l.resumption.loop, l.drain.loop = l, l, l, l
	l.acceptor.loop, l.pace.loop, l.evictor.loop, l.half.loop, l.wait.loop = l, l, l, l, l
	l.output.loop, l.output.flusher, l.slow.loop = l, new(writer), l
	l.throttle.loop = l
	l.inflater.loop, l.inflater.mail = l, owner.NewMailbox[offloaded](l.Wake)
	if e.opts.TLS != nil {
		l.tls = newTLSLoop(l)
	}
	return l
}

// Index returns the loop's number, from 0. Any goroutine may call it.
func (l *Loop) Index() int { return l.index }

// Clock returns the source of time. Any goroutine may call it.
func (l *Loop) Clock() owner.Clock { return l.clock }

// Now returns the time at which the current iteration began, or was last woken while its input was
// handled.
func (l *Loop) Now() time.Duration { return l.now }

// Wheel returns the wheel for the Handler's timers. Those of Schedule fire at the beginning of an
// iteration, and before Handler.Iterate if the loop was woken since. Those of Expect fire after
// Handler.Iterate, which is then called again.
func (l *Loop) Wheel() *owner.Wheel { return l.wheel }

// Arena returns the memory that frames for Conn.Send are best made in: frames committed in a row
// are written as one slice.
func (l *Loop) Arena() *pool.Arena { return &l.arena }

// Conn returns the connection of a handle: a WebSocket, a pending upgrade, a stream, or a plain
// request without its response. It returns nil if the connection has closed or begun to.
func (l *Loop) Conn(h Handle) *Conn {
	if h.Loop() != l.index {
		return nil
	}
	if c := l.table.get(h); c != nil && (c.state == stateOpen || c.state == statePending || c.state == stateRequest) {
		return c
	}
	return nil
}

// Wake makes the loop begin an iteration soon, after the sockets that are ready. Calls are
// coalesced until that iteration begins. The Handler.Iterate that follows sees all that was done
// before Wake. Any goroutine may call it.
func (l *Loop) Wake() { l.wait.wake() }

// Behind notes, during Handler.Iterate, that messages were left for a later iteration. Deadlines
// are put off, because the reply or input that they wait for may be among these.
func (l *Loop) Behind() { l.behind = true }

// Full reports whether a connection has much output that no write has been tried of yet. A Handler
// should leave its messages to later iterations then: otherwise more events than the loop can write
// pile up in the outboxes of clients that read.
func (l *Loop) Full() bool { return l.output.full }

// CloseAll closes every WebSocket connection of the loop after what is queued for it. Streams are
// finished, pending upgrades rejected with 503. Connections whose request head is incomplete stay,
// and so do those with a plain request. Each client is sent to one of Options.Alternates, if there
// are any; reason is for those without.
func (l *Loop) CloseAll(why Cause, code uint16, reason string) {
	for i := range l.table.slots {
		if c := l.table.slots[i].conn; c != nil {
			attempt(c, func(c *Conn) {
				Because(c, why)
				c.ending().sendAway(code, reason)
			})
		}
	}
}

// begin begins an iteration.
func (l *Loop) begin() {
	if !l.started {
		l.started = true
		start(l)
	}
	l.inflater.used = 0
	l.resumption.nextIteration()
	l.iter.run(stepBegin, stepBegin)
}

// start has the Handler make its state of the loop. A loop without it does nothing, and the engine
// does not start.
func start(l *Loop) {
	defer l.engine.opts.Faults.Contain(owner.Loop, "loop", l.index)
	l.iter.broken = true
	defer func() {
		if l.iter.broken {
			l.engine.broken.Store(true)
		}
	}()
	l.engine.opts.Handler.Start(l)
	l.iter.broken = false
}

// end ends an iteration: the Handler's part, the writes, the closing. Another must follow while
// connections are in the write queue.
func (l *Loop) end() { l.iter.run(stepResume, stepEnd) }

// ackWake clears the wake flag before anything is drained, so that a later Wake schedules a new
// iteration.
func (l *Loop) ackWake() {
	if l.wait.scheduled.Load() {
		l.wait.scheduled.Store(false)
		l.engine.metrics.Wakes.Add(1)
	}
	l.ticker.Turn(&l.now)
}

// judge fires the deadlines that have passed although the iteration's input has been handled. An
// iteration that began without input while sockets are ready leaves the deadlines to the next one,
// which begins with those sockets.
func (l *Loop) judge() (fired bool) {
	w, p := &l.wait, l.wait.parker.Load()
	switch {
	case p == nil:
		until, ok := w.judgeable(l.now)
		return ok && l.wheel.JudgeUntil(l.now, until, l.behind)
	case w.callbacks == 0 && p.Ready():
		return false
	case w.callbacks >= maxCallbacks || len(l.reaper.conns) > 0 && p.Ready():
		l.behind = true
	}
	return l.ticker.Judge(l.now, l.behind)
}

// limits returns the parser's limits for the next frame.
func (l *Loop) limits() wsproto.Limits {
	return wsproto.Limits{Message: l.opts.Limits.MaxMessage, Inflate: min(inflateInline, max(inflateBudget-l.inflater.used, 1))}
}
