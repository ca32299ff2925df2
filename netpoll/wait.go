package netpoll

import (
	"net"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"

	"sluice/netpoll/park"
)

// A loop's goroutine waits for its sockets in one of two ways. gnet waits in a system call, with a
// thread and, until Go's monitor takes it away, a processor of Go's scheduler; a byte on a socket
// that gnet watches ends that wait. So the loop does not let it come to that if it can: behind the
// last of the callbacks that gnet makes in a row, it waits as other goroutines do (see package
// park), has its iterations, and returns when gnet will find something to do.
//
// What gnet has in hand belongs to one iteration: it begins with the first callback, and stays open
// if more sockets are ready. A byte sent to itself, the mark, makes sure that there will be a
// callback to end it.

// maxCallbacks is how many callbacks of gnet make an iteration at most: what they lead to is not
// written before its end.
const maxCallbacks = 128

// maxBusyIterations is how many iterations with input may follow each other before other
// goroutines' sockets are looked after.
const maxBusyIterations = 8

// newParker makes the parkers of loops. Tests have loops wait in gnet instead.
var newParker = park.New

// HoldsProcessor reports whether a waiting Loop holds a processor of Go's scheduler. There should
// then be one more of them than loops.
const HoldsProcessor = park.HoldsProcessor

// Where a loop's goroutine is.
const (
	inGnet  int32 = iota // perhaps waiting
	working              // will look whether it was woken before it waits
	parked               // waiting for parker
)

// waiting is how a loop waits and is woken.
type waiting struct {
	// Owned by the loop.
	selfWakePending bool // the mark is on its way
	callbacks       int  // callbacks in the present iteration
	busyIterations  int  // with input, since the loop was parked

	// Owned by the loop, and used only while it waits in gnet: see judgeable.
	judgeUntil time.Duration
	wakesLeft  int8 // wake callbacks before deadlines until judgeUntil are judged; 0: no round has begun

	// Shared with those who wake the loop.
	scheduled atomic.Bool // it is to begin an iteration, which it has not
	position  atomic.Int32
	parker    atomic.Pointer[park.Parker] // nil: it waits in gnet only
	outer     atomic.Pointer[net.Conn]
}

// Wake makes the loop begin an iteration soon, after the sockets that are ready. Calls are
// coalesced until that iteration begins; whatever was done before Wake is seen by the
// Handler.Iterate that follows. Any goroutine may call it.
func (l *Loop) Wake() {
	w := &l.wait
	if w.scheduled.Load() || !w.scheduled.CompareAndSwap(false, true) {
		return
	}
	switch w.position.Load() {
	case inGnet:
		w.signal()
	case parked:
		w.parker.Load().Wake()
	}
}

var wakeByte = []byte{0}

// signal has gnet make a callback. It never blocks: few bytes are on their way at any time. If it
// fails, gnet is at its end; attach will begin the iteration.
func (w *waiting) signal() {
	if outer := w.outer.Load(); outer != nil {
		_, _ = (*outer).Write(wakeByte)
	}
}

// selfWake makes sure that a callback will follow, whatever gnet finds.
func (w *waiting) selfWake() {
	w.selfWakePending = true
	w.signal()
}

// judgeable returns until when deadlines may be judged in a loop that waits in gnet; ok is false if
// none may be yet. Each ready socket has an iteration of its own there, and the loop cannot ask
// whether others are ready. So a passed deadline waits for two wake callbacks. The kernel reports
// sockets in the order in which they became ready. The byte of the first callback may be older than
// the deadline. That of the second is not, as the first has read all older ones: every socket that
// was ready at judgeUntil has been read by then.
func (w *waiting) judgeable(now time.Duration) (until time.Duration, ok bool) {
	switch w.wakesLeft {
	case 0:
		w.judgeUntil, w.wakesLeft = now, 3
	case 1:
		w.wakesLeft = 0
		return w.judgeUntil, true
	}
	if !w.selfWakePending {
		w.selfWake()
	}
	return 0, false
}

// attach is called when the loop has been bound: the first thing that happens on a new event loop,
// but for connections that were accepted very early.
func (l *Loop) attach(gc gnet.Conn, k *waker) {
	l.wait.outer.Store(&k.outer)
	p, err := newParker(gc.Fd(), l.wait.selfWake)
	if err != nil {
		l.engine.log.Warn("an event loop waits in the kernel and keeps a processor from others: mount /proc, or set GOMAXPROCS to one more than cores", "error", err)
	}
	l.wait.parker.Store(p)
	l.woken()
}

// detach is called when the loop's event loop has ended.
func (l *Loop) detach() {
	w := &l.wait
	if outer := w.outer.Swap(nil); outer != nil {
		_ = (*outer).Close()
	}
	if p := w.parker.Load(); p != nil {
		p.Close()
	}
	w.selfWakePending, w.wakesLeft = false, 0
	w.position.Store(inGnet)
	l.taken.Store(false)
}

// woken is a callback that ends the iteration: the mark has come, or gnet was waiting when the loop
// was woken.
func (l *Loop) woken() {
	w := &l.wait
	w.selfWakePending = false
	if w.wakesLeft > 1 {
		w.wakesLeft--
	}
	l.enter()
	l.end()
	l.idle()
}

// enter begins a callback: an iteration, or what follows in the open one.
func (l *Loop) enter() {
	if l.wait.parker.Load() != nil {
		l.wait.position.Store(working)
	}
	if !l.iterating {
		l.begin()
	}
	l.wait.callbacks++
}

// leave ends a callback. The iteration stays open if more input belongs to it; what was marked for
// closing in it is not kept waiting, because others may own the socket already.
func (l *Loop) leave() {
	w := &l.wait
	if p := w.parker.Load(); p != nil && len(l.toReap) == 0 && w.callbacks < maxCallbacks {
		if !w.selfWakePending && p.Ready() {
			w.selfWake()
			p.Notice(false) // more is coming, and looked at before the loop waits
		}
		if w.selfWakePending {
			return
		}
	}
	l.end()
	if !w.selfWakePending {
		l.idle()
	}
}

// closed is the callback for a connection that gnet closes of its own accord. The loop does not
// rest in it: the descriptor is closed behind it.
func (l *Loop) closed(c *Conn, err error) {
	l.enter()
	l.run(stepResume, stepResume) // what had come before is still handled
	if !l.tryKeepHalfClosed(c, err) {
		l.finalized(c)
	}
	switch w := &l.wait; {
	case l.engine.needsGnet():
		l.end()
		l.returnToGnet()
	case w.parker.Load() == nil:
		l.end()
		l.continueQueue()
	case !w.selfWakePending:
		w.selfWake()
	}
}

// idle waits until gnet has something to do. Those who wake the loop have their iterations
// meanwhile. While connections stand in line, it only lets others run: what they have for the loop
// belongs to the next iteration.
func (l *Loop) idle() {
	w, e := &l.wait, l.engine
	p := w.parker.Load()
	if p == nil {
		l.continueQueue()
		return
	}
	for !e.needsGnet() {
		if w.scheduled.Load() {
			l.begin()
			l.end()
			if w.scheduled.Load() && p.Ready() {
				break
			}
		}
		if l.queue.len() > 0 {
			if p.Yield(); w.selfWakePending {
				break
			}
			continue
		}
		w.position.Store(parked)
		ready := !w.scheduled.Load() && !e.needsGnet() && w.park(p)
		w.position.Store(working)
		if ready {
			break
		}
	}
	l.returnToGnet()
}

// park waits until sockets are ready, or, with false, until wake was called.
func (w *waiting) park(p *park.Parker) (ready bool) {
	if w.busyIterations++; w.busyIterations > maxBusyIterations {
		w.busyIterations = 0
		return p.Yield()
	}
	ready, waited := p.Wait()
	if waited {
		w.busyIterations = 0
	}
	return ready
}

// continueQueue makes sure that an iteration follows in which the line moves on, if anyone stands
// in it.
func (l *Loop) continueQueue() {
	if l.queue.len() > 0 && !l.wait.selfWakePending {
		l.wait.selfWake()
	}
}

// returnToGnet lets gnet go on, which may wait.
func (l *Loop) returnToGnet() {
	w := &l.wait
	w.position.Store(inGnet)
	l.continueQueue()
	if !w.selfWakePending && (w.scheduled.Load() || l.engine.quitting.Load()) {
		w.selfWake() // who woke it has seen it at work
	}
}
