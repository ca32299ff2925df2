package memory

import (
	"log/slog"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"sync/atomic"
	"time"

	"sluice/internal/owner"
)

// After a storm of clients the Go runtime keeps as much memory again as is in use: what was
// allocated up to the last collection, and room until the next one. A gateway whose clients are
// quiet allocates next to nothing, so that collection may be hours away. A Trim collects then, and
// gives the pages back to the system.
//
// Only a collection tells what is in use. So owners note what they have dropped of it (Dropped):
// else a quiet process would keep that until the next collection.
//
// While the gateway allocates much, the runtime's own pace is the right one, and there is no trim.
// A trim must also pay: it gives back an eighth of what is in use at least, and as many eighths as
// the process allocates megabytes per second. So trims cost less than one per cent of a core: an
// eighth of a gigabyte comes together in two minutes at one megabyte per second, and a collection
// of a gigabyte takes less than a second of a core.

const (
	trimInterval = time.Second // of looks
	// quietLooks is for how many looks in a row the process has to allocate less than quietBytes
	// each.
	quietLooks = 3
	quietBytes = trimPart * trimRate
	// A trim gives back at least leastTrim bytes, and live/trimPart for each trimRate that was
	// allocated in the busiest of these looks.
	leastTrim = 2 << 20
	trimPart  = 8
	trimRate  = 1 << 20
)

// Heap is what a Trim reads.
type Heap struct {
	Allocated int64 // bytes since the process started
	Live      int64 // bytes that the last collection found in use
	Objects   int64 // bytes of objects, those included that no one uses and no collection has found
	Free      int64 // bytes without objects that the system has not got back
	Dropped   int64 // bytes that Dropped has noted since the process started
	Cycles    int64 // collections
	Off       bool  // there are no collections (GOGC=off): none is to be started
}

// gain is what a trim gives back at most.
func (h *Heap) gain() int64 { return h.Objects - h.Live + h.Free }

// dropped counts what Dropped has noted. The heap is the process's, and so is the count.
var dropped atomic.Int64

// Dropped notes that so many bytes have gone out of use that were in use for a while: the latest
// collection has found them so. Any goroutine may call it.
func Dropped(bytes int) { dropped.Add(int64(bytes)) }

// Trim gives unused memory back while the process is quiet, and has small heaps collected less
// often. Its methods may be called from any goroutine.
type Trim struct {
	clock owner.Clock
	log   *slog.Logger
	read  func() Heap
	free  func() // collects and gives back; it takes a while
	pace  *pace  // nil: the operator's
	busy  atomic.Bool
	ended atomic.Bool

	// Owned by the alarm's function.
	allocated int64             // at the last look
	quiet     int               // looks in a row
	recent    [quietLooks]int64 // bytes allocated at the last looks
	cycles    int64             // collections at the last look
	dropped   int64             // Heap.Dropped at the last look
	collected int64             // of these, what a collection has found since
	percent   int               // that was set last
}

// StartTrim begins to give unused memory of this process back, and to pace its collector unless the
// environment does (GOGC).
func StartTrim(clock owner.Clock, log *slog.Logger) *Trim {
	t := &Trim{clock: clock, log: log, read: ReadHeap, free: debug.FreeOSMemory, pace: paceOf()}
	t.start()
	return t
}

func paceOf() *pace {
	if os.Getenv("GOGC") != "" {
		return nil
	}
	return &collector
}

func (t *Trim) start() {
	t.allocated = t.read().Allocated
	t.arm()
}

// Stop ends it: no further trim begins.
func (t *Trim) Stop() { t.ended.Store(true) }

func (t *Trim) arm() { t.clock.AfterFunc(trimInterval, t.look) }

func (t *Trim) look() {
	if t.ended.Load() {
		return
	}
	defer t.arm()
	h := t.read()
	copy(t.recent[:], t.recent[1:])
	t.recent[quietLooks-1] = h.Allocated - t.allocated
	if h.Allocated-t.allocated < quietBytes {
		t.quiet++
	} else {
		t.quiet = 0
	}
	t.allocated = h.Allocated
	if h.Cycles != t.cycles {
		t.cycles, t.collected = h.Cycles, t.dropped
	}
	t.dropped = h.Dropped
	if percent := percentOf(h.Live); t.pace != nil && percent != t.percent {
		t.percent = percent
		t.pace.use(percent)
	}
	least := max(leastTrim, h.Live/trimPart*max(1, slices.Max(t.recent[:])/trimRate))
	if h.Off || t.quiet < quietLooks || h.gain()+h.Dropped-t.collected < least || t.busy.Swap(true) {
		return
	}
	t.quiet = 0
	go func() {
		t.free()
		t.busy.Store(false)
		after := t.read()
		t.log.Debug("unused memory given back", "bytes", h.gain()-after.gain())
	}()
}

// ReadHeap returns the heap of this process.
func ReadHeap() Heap {
	samples := [...]metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"},
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/gc/gogc:percent"},
		{Name: "/gc/cycles/total:gc-cycles"},
	}
	metrics.Read(samples[:])
	value := func(i int) int64 { return int64(samples[i].Value.Uint64()) }
	return Heap{
		Allocated: value(0), Live: value(1), Objects: value(2), Free: value(3), Dropped: dropped.Load(), Cycles: value(5),
		Off: samples[4].Value.Uint64() == math.MaxUint64,
	}
}
