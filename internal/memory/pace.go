package memory

import (
	"runtime/debug"
	"sync"
)

// The Go runtime collects when the heap has doubled (GOGC=100), from 4 MB on. For a gateway with
// few clients and many requests that is dozens of times per second, each time with all that does
// not depend on the heap's size. A small heap may grow to some 20 MB instead: with 64 clients that
// costs 12 MB, and GET requests take a tenth less CPU.

const usualPercent = 100 // the runtime's default

// percentOf returns the percentage of what is in use, in bytes, that may be allocated until the
// next collection.
func percentOf(live int64) int {
	switch {
	case live < 4<<20:
		return 4 * usualPercent
	case live < 8<<20:
		return 2 * usualPercent
	default:
		return usualPercent
	}
}

// pace is the percentage of this process. Any goroutine may use it.
type pace struct {
	set func(percent int) (before int)

	mu    sync.Mutex
	lean  bool
	after int // with lean: what follows it
}

// collector is the process's: there is one heap.
var collector = pace{set: debug.SetGCPercent}

// use sets the percentage, or what it is after a lean phase.
func (p *pace) use(percent int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lean {
		p.after = percent
	} else {
		p.set(percent)
	}
}

// leanPercent is the percentage in a lean phase.
const leanPercent = 25

// Lean keeps the heap close to what is in use, for more time in the collector, until end is called.
// That is for a process that fills beside another one with the same clients. Of several at a time
// the first counts.
func Lean() (end func()) { return collector.begin() }

func (p *pace) begin() (end func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.set(leanPercent)
	if p.lean || before <= leanPercent { // it is leaner, or has no collections by choice (GOGC=off)
		p.set(before)
		return func() {}
	}
	p.lean, p.after = true, before
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.lean = false
		p.set(p.after)
	}
}
