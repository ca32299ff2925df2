package cache

import (
	"sync"
	"sync/atomic"
	"time"

	"sluice/internal/owner"
)

// worker is the life of a shard's goroutine. It knows no Shard: it calls turn
// once for each wake-up.
type worker struct {
	turn func() // fixed after construction
	end  func() // likewise; called on the goroutine after its last turn

	wakeups  chan struct{}
	stopping atomic.Bool
	stopOnce sync.Once
	started  atomic.Bool
	stopped  chan struct{}
}

func (w *worker) init(turn, end func()) {
	w.turn, w.end = turn, end
	w.wakeups = make(chan struct{}, 1)
	w.stopped = make(chan struct{})
}

// Start starts the shard's goroutine.
func (w *worker) Start() {
	if !w.started.Swap(true) {
		go w.loop()
	}
}

// Stop ends the shard's goroutine and waits for its end. Messages that are then in the mailbox are
// dropped. It must not be called on the shard's goroutine.
func (w *worker) Stop() {
	w.stopOnce.Do(func() {
		w.stopping.Store(true)
		w.wake()
		if !w.started.Swap(true) {
			close(w.stopped) // the goroutine never started, and no longer can
		}
	})
	<-w.stopped
}

func (w *worker) loop() {
	defer close(w.stopped)
	for range w.wakeups {
		if w.stopping.Load() {
			w.end()
			return
		}
		w.turn()
	}
}

// Due reports whether a turn is due. It is for a shard that is not started: its turns are its
// creator's, who calls Turn, on one goroutine.
func (w *worker) Due() bool { return len(w.wakeups) > 0 }

// Turn runs the turn that is due, if one is.
func (w *worker) Turn() {
	select {
	case <-w.wakeups:
		w.turn()
	default:
	}
}

// wake has the goroutine run a turn. It never blocks.
func (w *worker) wake() {
	select {
	case w.wakeups <- struct{}{}:
	default:
	}
}

// timing is a shard's clock and timers. They belong to its goroutine.
type timing struct {
	now    time.Duration
	wheel  *owner.Wheel
	ticker *owner.Ticker
}

// Wheel returns the wheel that the shard advances at the start of each turn, for timers that belong
// to its goroutine, such as those of its Bus. Use it on the shard's goroutine, or before Start.
func (t *timing) Wheel() *owner.Wheel { return t.wheel }

// Now returns the time of the present turn. Use it like Wheel.
func (t *timing) Now() time.Duration { return t.now }
