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
type Loop struct {
	// Data is the Handler's.
	Data any

	// Fixed after New.
	engine  *Engine
	index   int
	clock   owner.Clock
	flusher flusher
	tls     *tlsLoop // nil: plaintext

	// Owned by the loop.
	el            gnet.EventLoop // of the present gnet
	started       bool           // Handler.Start was called
	iterating     bool
	reaping       bool // OnClose is called from within reap
	behind        bool // see Behind
	now           time.Duration
	wheel         *owner.Wheel
	ticker        *owner.Ticker
	arena         pool.Arena
	table         table
	held          int        // connections that the Handler knows
	dirty         []*Conn    // have got something to write since the last flush
	queue         writeQueue // have had something to write for longer
	toReap        []*Conn    // are to be closed at the end of the iteration
	lagChanged    []*Conn    // have begun or ceased to lag in this iteration
	freeBacklog   *backlog
	freeBacklogs  int
	reserveUsed   int // connections that use the reserve
	logged        warnings
	head          wsproto.Head              // scratch
	acceptHead    wsproto.Head              // scratch of Accept
	deciding      decision                  // of the Handler.Upgrade under way
	resumable     []*Conn                   // may go on, with input that was kept meanwhile
	yielded       []*Conn                   // have had their share of this iteration
	yieldedBefore []*Conn                   // had theirs in the iteration before
	bodies        map[uint32]int            // by slot: bytes of a request whose body is incomplete, head included
	proxied       map[uint32]netip.AddrPort // by slot: addresses that proxies told
	stats         stats
	drain         drain

	deferred deferred
	half     halfClosed
	lingers  map[uint32]lingering // by slot
	work     work
	broken   bool // Handler.Start has panicked: the loop does nothing
	inflater inflater

	evictions evictions

	// Shared with those who wake the loop.
	taken atomic.Bool // bound to an event loop of gnet
	wait  waiting
}

// stats are counters of the present iteration, added to Metrics at its end.
type stats struct{ in, out, writes, submits, messages, frames, requests uint64 }

func newLoop(e *Engine, index int) *Loop {
	l := &Loop{engine: e, index: index, clock: e.opts.Clock, flusher: new(writer)}
	l.now = l.clock.Now()
	l.wheel = owner.NewWheel(tick, l.now)
	l.ticker = owner.NewTicker(l.clock, l.wheel, l.Wake)
	l.inflater.mail = owner.NewMailbox[offloaded](l.Wake)
	if e.opts.TLS != nil {
		l.tls = newTLSLoop(l)
	}
	return l
}

// Index returns the loop's number, from 0. Any goroutine may call it.
func (l *Loop) Index() int { return l.index }

// Clock returns the source of time. Any goroutine may call it.
func (l *Loop) Clock() owner.Clock { return l.clock }

// Now returns the time that the present iteration began at, or was woken at while its input was
// handled.
func (l *Loop) Now() time.Duration { return l.now }

// Wheel returns the wheel that the Handler may keep its timers on. Those of Schedule fire at the
// beginning of an iteration, and before Handler.Iterate if the loop was woken meanwhile; those of
// Expect behind Handler.Iterate, which is called again then.
func (l *Loop) Wheel() *owner.Wheel { return l.wheel }

// Arena returns the memory that frames for Conn.Send are best made in: those committed one after
// the other are written as one.
func (l *Loop) Arena() *pool.Arena { return &l.arena }

// Conn returns the connection that a handle names, be it a WebSocket, a pending upgrade, a stream
// or one whose plain request is to be answered; nil if it has closed or begun to.
func (l *Loop) Conn(h Handle) *Conn {
	if h.Loop() != l.index {
		return nil
	}
	if c := l.table.get(h); c != nil && (c.state == stateOpen || c.state == statePending || c.state == stateRequest) {
		return c
	}
	return nil
}

// begin begins an iteration.
func (l *Loop) begin() {
	if !l.started {
		l.started = true
		start(l)
	}
	l.inflater.used = 0
	l.yieldedBefore, l.yielded = l.yielded, l.yieldedBefore
	l.run(stepBegin, stepBegin)
}

// start has the Handler make its state of the loop. Without that the loop is of no use: the engine
// does not start.
func start(l *Loop) {
	defer l.engine.opts.Faults.Contain(owner.Loop, "loop", l.index)
	l.broken = true
	defer func() {
		if l.broken {
			l.engine.broken.Store(true)
		}
	}()
	l.engine.opts.Handler.Start(l)
	l.broken = false
}

// ackWake clears the wake flag before anything is drained, so that a later Wake schedules a new
// iteration.
func (l *Loop) ackWake() {
	if l.wait.scheduled.Load() {
		l.wait.scheduled.Store(false)
		l.engine.metrics.Wakes.Add(1)
	}
	l.ticker.Turn(&l.now)
}

// end ends an iteration: the Handler's part, the writes, the closing of what is to go. If
// connections stand in line then, another iteration must follow.
func (l *Loop) end() { l.run(stepResume, stepEnd) }

// Behind tells the loop, during Handler.Iterate, that input was left for a later iteration: what
// peers and services are waited for with a deadline may be in it.
func (l *Loop) Behind() { l.behind = true }

// judge fires the deadlines that have passed with the iteration's input handled. An iteration that
// has begun for something else while sockets are ready leaves them to the next one, which begins
// with these.
func (l *Loop) judge() (fired bool) {
	w, p := &l.wait, l.wait.parker.Load()
	switch {
	case p == nil:
		until, ok := w.judgeable(l.now)
		return ok && l.wheel.JudgeUntil(l.now, until, l.behind)
	case w.callbacks == 0 && p.Ready():
		return false
	case w.callbacks >= maxCallbacks || len(l.toReap) > 0 && p.Ready():
		l.behind = true
	}
	return l.ticker.Judge(l.now, l.behind)
}

// reap closes the marked for closing connections; Handler.Closed may send to others and
// scheduleClose them.
func (l *Loop) reap() {
	for i := 0; i < len(l.toReap); i++ {
		c := l.toReap[i]
		l.toReap[i] = nil
		if c != nil && c.gc != nil { // nil: a panic interrupted its end
			if c.link() != nil {
				c.tls().sendCloseNotify()
			}
			l.reaping = true
			_ = l.el.Close(c.gc) // calls finalize; what it returns, gnet has logged
			l.reaping = false
		} else if c.state != stateClosed {
			if c.link() != nil {
				c.tls().sendCloseNotify()
			}
			c.ending().closeHalf()
		}
	}
	l.toReap = l.toReap[:0]
}

// notifyLagging lets the Handler know of connections that have begun to lag or do so no longer.
func (l *Loop) notifyLagging() {
	for i := 0; i < len(l.lagChanged); i++ { // what the Handler sends is written in the next round
		c := l.lagChanged[i]
		l.lagChanged[i] = nil
		if c != nil && c.state == stateOpen && c.flags&flagHeld != 0 {
			l.work.conn = c
			l.engine.opts.Handler.Lagging(c)
		}
	}
	l.lagChanged = l.lagChanged[:0]
	l.work.conn = nil
}

// publish adds the iteration's counts to those that everybody sees.
func (l *Loop) publish() {
	m, s := l.engine.metrics, &l.stats
	if s.in > 0 {
		m.BytesIn.Add(s.in)
	}
	if s.messages > 0 {
		m.Messages.Add(s.messages)
	}
	if s.frames > 0 {
		m.Frames.Add(s.frames)
	}
	if s.requests > 0 {
		m.Requests.Add(s.requests)
	}
	if s.writes > 0 {
		m.Writes.Add(s.writes)
		m.BytesOut.Add(s.out)
		if s.submits > 0 {
			m.Submits.Add(s.submits)
		}
	}
	*s = stats{}
}
