package memory

import (
	"log/slog"
	"runtime"
	"runtime/metrics"
	"sync/atomic"
	"time"

	"sluice/internal/owner"
)

// Level says how short memory is, and so what to shed. Each level includes those below it.
type Level int32

// The levels, with the part of the limit that is in use from which on they hold.
const (
	Enough Level = iota
	Tight        // 90%: what only saves work is to go
	Short        // 93%: nothing new is to come in
	Scarce       // 96%: those who use the most are to go
)

var levelNames = [...]string{"enough", "tight", "short", "scarce"}

func (l Level) String() string { return levelNames[l] }

const (
	firstPercent = 90
	stepPercent  = 3 // from level to level, and below a level before it ends
)

// levelAt returns the level for a reading, given the present one. A level ends only when the
// reading is a step below its beginning, so that it does not come and go with each collection.
func levelAt(now Level, used, limit int64) Level {
	beyond := func(l Level) int64 { return limit / 100 * int64(firstPercent+stepPercent*int(l-1)) }
	for now < Scarce && used >= beyond(now+1) {
		now++
	}
	for now > Enough && used < beyond(now-1) {
		now--
	}
	return now
}

const (
	interval = 100 * time.Millisecond // of readings
	// collectAfter is for how long a level holds without a collection before one is started. What
	// was shed shows only after a collection, and a process that does little has few.
	collectAfter = time.Second
)

// Reading is how much memory is in use.
type Reading struct {
	Used        int64  // bytes that no collection would free, as of the last one
	Collections uint64 // so far
}

// Options configure a Watch. All but Read and Collect are required.
type Options struct {
	Limit int64 // bytes; 0: no limit, nothing is watched
	Clock owner.Clock
	Log   *slog.Logger
	// Shed is called at each reading while the level is not Enough, and once when it is Enough
	// again. It must not block.
	Shed func(l Level)

	Read    func() Reading // default: of this process
	Collect func()         // starts a collection and does not wait; default: of this process
}

// Watch reads how much memory is in use, ten times a second. What counts is what no collection
// would free, so garbage is no reason to shed anything.
type Watch struct {
	o     Options
	level atomic.Int32
	ended atomic.Bool

	// Owned by the alarm's function.
	collections uint64
	since       time.Duration // of the last collection noticed

	raised [Scarce + 1]atomic.Uint64 // by level
}

// NewWatch returns a watch that begins at Start.
func NewWatch(o Options) *Watch {
	if o.Read == nil {
		o.Read = Read
	}
	if o.Collect == nil {
		o.Collect = func() { go runtime.GC() } // it waits for its end
	}
	return &Watch{o: o}
}

// Start begins to watch. It is called once.
func (w *Watch) Start() {
	if w.o.Limit > 0 {
		w.arm()
	}
}

// Stop ends the watch: there is no further reading. Any goroutine may call it.
func (w *Watch) Stop() { w.ended.Store(true) }

// Limit returns the limit in bytes; 0: there is none.
func (w *Watch) Limit() int64 { return w.o.Limit }

// Level returns the present level. Any goroutine may call it.
func (w *Watch) Level() Level { return Level(w.level.Load()) }

// Raised returns how many times a level was entered from below. Any goroutine may call it.
func (w *Watch) Raised(l Level) uint64 { return w.raised[l].Load() }

// arm sets the alarm for the next reading. Each has an alarm of its own: one that is reset by its
// function could be needed there before Start has stored it.
func (w *Watch) arm() { w.o.Clock.AfterFunc(interval, w.look) }

func (w *Watch) look() {
	if w.ended.Load() {
		return
	}
	defer w.arm()
	now, r := w.o.Clock.Now(), w.o.Read()
	if r.Collections != w.collections || w.since == 0 {
		w.collections, w.since = r.Collections, now
	}
	was := w.Level()
	level := levelAt(was, r.Used, w.o.Limit)
	w.level.Store(int32(level))
	for l := was + 1; l <= level; l++ {
		w.raised[l].Add(1)
	}
	if level != was {
		log := w.o.Log.Warn
		if level == Enough {
			log = w.o.Log.Info
		}
		log("memory pressure", "pressure", level.String(), "used", r.Used, "limit", w.o.Limit)
	}
	if level == Enough && was == Enough {
		return
	}
	w.o.Shed(level)
	if now-w.since >= collectAfter {
		w.since = now
		w.o.Collect()
	}
}

// Read returns the reading of this process.
func Read() Reading {
	samples := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"},
		{Name: "/gc/cycles/total:gc-cycles"},
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
	}
	metrics.Read(samples)
	value := func(i int) int64 { return int64(samples[i].Value.Uint64()) }
	// Stacks and what the runtime needs for itself are what is left of all without the heap.
	rest := value(2) - value(3) - value(4) - value(5) - value(6)
	return Reading{Used: value(0) + rest, Collections: samples[1].Value.Uint64()}
}
