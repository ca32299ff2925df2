package netpoll

import (
	"net"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"

	"sluice/netpoll/park"
)

// A loop's goroutine waits for its sockets in one of two ways. gnet waits in a system call, which
// keeps a thread and, until Go's monitor takes it away, a processor of Go's scheduler. So after the
// last of the callbacks that gnet makes in a row, the loop waits as other goroutines do (package
// park), runs its iterations, and returns to gnet when that will find a socket ready.
//
// All callbacks that gnet makes in a row belong to one iteration. It begins with the first and
// stays open while more sockets are ready. The loop wakes itself, with a byte on a socket that gnet
// watches, to be sure of a callback that ends the iteration: the self-wake.

// maxCallbacks bounds the callbacks of an iteration, because their output is written at its end.
const maxCallbacks = 128

// maxBusyIterations is how many iterations with input may follow each other before the loop yields
// to goroutines with other sockets.
const maxBusyIterations = 8

// newParker makes the parkers of loops. Tests have loops wait in gnet instead.
var newParker = park.New

// HoldsProcessor reports whether a waiting Loop holds a processor of Go's scheduler. There should
// then be one more of them than loops.
const HoldsProcessor = park.HoldsProcessor

// Where a loop's goroutine is.
const (
	inGnet  int32 = iota // possibly waiting
	working              // checks waiting.scheduled before it waits
	parked               // waits in the parker
)

// waiting is how a loop waits and is woken.
type waiting struct {
	// Owned by the loop.
	loop            *Loop  // fixed
	selfWakePending bool   // the byte was sent and has not been received
	callbacks       int    // in the current iteration
	busyIterations  int    // iterations with input since the loop last waited
	fd              int    // the socket that gnet watches
	buffer          []byte // for what the loop itself reads; nil: nothing yet

	// Owned by the loop, and used only while it waits in gnet: see judgeable.
	judgeUntil time.Duration
	wakesLeft  int8 // wake callbacks before deadlines until judgeUntil are judged; 0: no round has begun

	// Shared with the goroutines that wake the loop.
	scheduled atomic.Bool // an iteration was asked for and has not begun
	position  atomic.Int32
	parker    atomic.Pointer[park.Parker] // nil: it waits in gnet only
	outer     atomic.Pointer[net.Conn]    // the other end of the socket that gnet watches
}

// wake is Loop.Wake.
func (w *waiting) wake() {
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

// signal has gnet make a callback. It never blocks, because few bytes are in flight at any time. It
// fails only when gnet ends; attach then begins the iteration.
func (w *waiting) signal() {
	if outer := w.outer.Load(); outer != nil {
		_, _ = (*outer).Write(wakeByte)
	}
}

// selfWake makes sure that a callback follows, whatever sockets are ready.
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

// attach is called when the loop has been bound to a new event loop, before any other callback
// except those of connections that were accepted earlier.
func (w *waiting) attach(gc gnet.Conn, k *waker) {
	w.outer.Store(&k.outer)
	w.fd = gc.Fd()
	p, err := newParker(gc.Fd(), w.selfWake)
	if err != nil {
		w.loop.engine.log.Warn("an event loop waits in the kernel and keeps a processor from others: mount /proc, or set GOMAXPROCS to one more than cores", "error", err)
	}
	if p != nil && len(w.loop.engine.opts.Listeners) > 0 {
		p.StopListening(closeFD)
	}
	w.parker.Store(p)
	w.woken()
}

// detach is called when the loop's event loop has ended.
func (w *waiting) detach() {
	if outer := w.outer.Swap(nil); outer != nil {
		_ = (*outer).Close()
	}
	if p := w.parker.Load(); p != nil {
		p.Close()
	}
	w.selfWakePending, w.wakesLeft = false, 0
	w.position.Store(inGnet)
	w.loop.taken.Store(false)
}

// woken is the callback for a wake-up, of the loop itself or of another goroutine while gnet was
// waiting. It ends the iteration.
func (w *waiting) woken() {
	w.selfWakePending = false
	if w.wakesLeft > 1 {
		w.wakesLeft--
	}
	w.enter()
	w.loop.end()
	w.rest()
}

// enter begins a callback: an iteration, or more input of the open one.
func (w *waiting) enter() {
	if w.parker.Load() != nil {
		w.position.Store(working)
	} else {
		w.loop.measured.works(w.loop.clock.Now())
	}
	if !w.loop.iter.open {
		w.loop.begin()
	}
	w.callbacks++
}

// leave ends a callback. The iteration stays open if more input belongs to it, unless connections
// are scheduled for closing: their sockets may be owned by net/http by now.
func (w *waiting) leave() {
	l := w.loop
	if p := w.parker.Load(); p != nil && len(l.reaper.conns) == 0 && w.callbacks < maxCallbacks {
		if !w.selfWakePending && p.Ready() {
			w.selfWake()
			p.Notice(false) // the loop checks the sockets before it waits
		}
		if w.selfWakePending {
			return
		}
	}
	l.end()
	if !w.selfWakePending {
		w.rest()
	}
}

// closed is the callback for a connection that gnet closes of its own accord. The loop does not
// wait in it: gnet closes the descriptor after it returns.
func (w *waiting) closed(c *Conn, err error) {
	l := w.loop
	w.enter()
	l.iter.run(stepResume, stepResume) // earlier input is still handled
	if !c.ending().tryKeepHalfClosed(err) {
		c.ending().finalizeSafely()
	}
	l.reaper.letGo()
	switch {
	case l.engine.needsGnet():
		l.end()
		w.returnToGnet()
	case w.parker.Load() == nil:
		l.end()
		w.continueQueue()
	case !w.selfWakePending:
		w.selfWake()
	}
}

// rest waits until gnet has something to do, runs the iterations that other goroutines ask for, and
// reads the loop's sockets. While connections are in the write queue it does not wait, but yields
// between iterations, so that other goroutines can send the loop messages for the next one.
func (w *waiting) rest() {
	l := w.loop
	e := l.engine
	p := w.parker.Load()
	if p == nil {
		w.continueQueue()
		return
	}
	// gnet asks for several ready sockets at once, and may have yet to report some of them. It has
	// none if none is ready.
	for asked := false; !e.needsGnet(); asked = true {
		if w.scheduled.Load() {
			l.begin()
			l.end()
		}
		if !asked && p.Ready() {
			break
		}
		ready := true
		if l.output.queue.len() > 0 {
			p.Yield()
		} else {
			w.position.Store(parked)
			ready = !w.scheduled.Load() && !e.needsGnet() && w.park(p)
			w.position.Store(working)
		}
		if ready && !w.read(p) {
			break
		}
	}
	w.returnToGnet()
}

// park waits until sockets are ready, or, with false, until wake was called.
func (w *waiting) park(p *park.Parker) (ready bool) {
	if w.busyIterations++; w.busyIterations > maxBusyIterations {
		w.busyIterations = 0
		return p.Yield()
	}
	m, clock := w.loop.measured, w.loop.clock
	m.waits(clock.Now())
	ready, waited := p.Wait()
	m.works(clock.Now())
	if waited {
		w.busyIterations = 0
	}
	return ready
}

// continueQueue makes sure that another iteration follows while connections are in the write queue.
func (w *waiting) continueQueue() {
	if w.loop.output.queue.len() > 0 && !w.selfWakePending {
		w.selfWake()
	}
	if w.parker.Load() == nil {
		w.loop.measured.waits(w.loop.clock.Now())
	}
}

// returnToGnet is called before the loop returns to gnet, which may wait.
func (w *waiting) returnToGnet() {
	w.position.Store(inGnet)
	w.continueQueue()
	if !w.selfWakePending && (w.scheduled.Load() || w.loop.engine.quitting.Load()) {
		w.selfWake() // wake found the loop working, and sent no signal
	}
}

// accept has gnet accept connections, or leave them to the kernel's queue. It reports whether that
// was possible.
func (w *waiting) accept(on bool) bool {
	p := w.parker.Load()
	return p != nil && p.Accept(on)
}

// watch has gnet read a connection, or not. It reports whether that was possible.
func (w *waiting) watch(c *Conn, on bool) bool {
	p := w.parker.Load()
	return p != nil && p.Watch(int(c.fd), on)
}
