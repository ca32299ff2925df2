package httpapi

import (
	"cmp"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sluice/internal/owner"
)

// What waits to be written at net/http is memory of slow clients, as a connection's outbox is on an
// event loop. Handler.writing lists it, so that the bound of all slow clients holds for it, too:
// while there is any, Options.Shed is asked every writingTick how much must go, and the worst are
// cut. No path of an event takes the lock.

const (
	writingTick = 100 * time.Millisecond
	// writePart is what is written at a time: progress shows after each.
	writePart = 64 << 10
)

// writing is the responses and streams that net/http is writing.
type writing struct {
	clock owner.Clock
	shed  func(bytes int64, cut func(share int64) int)
	total atomic.Int64 // bytes, as of the latest tick

	mu    sync.Mutex
	all   map[*waiting]struct{}
	alarm owner.Alarm // nil until the first
	armed bool
}

// waiting is one response or stream that is being written.
type waiting struct {
	bytes   *atomic.Int64 // not written yet
	since   atomic.Int64  // when something was written last: a time of the clock
	control *http.ResponseController
}

// Waiting returns how many bytes waited to be written at net/http when Options.Shed was asked last.
// Any goroutine may call it.
func (l *writing) Waiting() int64 { return l.total.Load() }

// add lists what is being written to w. remove must follow before w's handler returns.
func (l *writing) add(w http.ResponseWriter, bytes *atomic.Int64) *waiting {
	x := &waiting{bytes: bytes, control: http.NewResponseController(w)}
	x.since.Store(int64(l.clock.Now()))
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil {
		l.all = make(map[*waiting]struct{})
	}
	l.all[x] = struct{}{}
	if !l.armed {
		l.armed = true
		if l.alarm == nil {
			l.alarm = l.clock.AfterFunc(writingTick, l.tick)
		} else {
			l.alarm.Reset(writingTick)
		}
	}
	return x
}

func (l *writing) remove(x *waiting) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.all, x)
}

// tick counts what waits, and cuts the worst if they must go. It holds the lock meanwhile, so that
// no handler returns whose writer is used here.
func (l *writing) tick() {
	l.mu.Lock()
	defer l.mu.Unlock()
	var total int64
	for x := range l.all {
		total += x.bytes.Load()
	}
	l.total.Store(total)
	if l.armed = len(l.all) > 0; !l.armed {
		return
	}
	defer l.alarm.Reset(writingTick)
	if total > 0 {
		l.shed(total, l.cut)
	}
}

// cut ends the worst until more than share bytes are gone, and returns how many it has ended: the
// largest first, among equals those that have waited longest.
func (l *writing) cut(share int64) (n int) {
	type weighed struct {
		x     *waiting
		bytes int64
	}
	var worst []weighed
	for x := range l.all {
		if b := x.bytes.Load(); b > 0 {
			worst = append(worst, weighed{x, b})
		}
	}
	slices.SortFunc(worst, func(a, b weighed) int {
		return cmp.Or(cmp.Compare(b.bytes, a.bytes), cmp.Compare(a.x.since.Load(), b.x.since.Load()))
	})
	var gone int64
	for _, w := range worst {
		if gone > share {
			break
		}
		_ = w.x.control.SetWriteDeadline(time.Unix(1, 0)) // the write fails now
		delete(l.all, w.x)
		gone += w.bytes
		n++
	}
	l.total.Add(-gone)
	return n
}

// progress notes that something has been written.
func (l *writing) progress(x *waiting) { x.since.Store(int64(l.clock.Now())) }

// send writes a body in parts, and ends at the first error: the client has gone, or is cut.
func (l *writing) send(w http.ResponseWriter, body []byte) {
	var left atomic.Int64
	left.Store(int64(len(body)))
	x := l.add(w, &left)
	defer l.remove(x)
	for part := range slices.Chunk(body, writePart) {
		if _, err := w.Write(part); err != nil {
			return
		}
		left.Add(-int64(len(part)))
		l.progress(x)
	}
}
