package simulation

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A world has so many steps before it comes to rest; every tenth has more. Per second of computing,
// shorter ones find less, and some faults show only when much has gone wrong before.
const (
	length     = 300
	longLength = 1000
)

// shrinkTime bounds how long a failure's trace is made shorter.
const shrinkTime = time.Minute

// Options are what Run does. The worlds of a seed are always the same.
type Options struct {
	Seed    uint64
	First   uint64            // number of the first world
	Worlds  uint64            // how many; 0: any number
	Time    time.Duration     // after which no world begins; 0: never
	Workers int               // worlds at a time; 0: one per processor
	Say     func(line string) // called now and then while it runs; nil: it is not
}

// Report is what Run has found.
type Report struct {
	Worlds, Steps, Messages uint64   // messages are those to clients
	Failure                 *Failure // the one of the lowest number; nil: there is none
}

// Failure is a world in which something is wrong.
type Failure struct {
	Seed, World uint64
	Err         error
	Steps       int    // of the world until then
	Shortest    int    // of the shortest trace that fails
	ShortestErr error  // how
	Trace       string // what happens in it
}

// String describes a failure for those who look for its cause.
func (f *Failure) String() string {
	return fmt.Sprintf("seed %d, world %d, after %d steps: %v\nThe shortest trace found has %d steps:\n%s=> %v\n", f.Seed, f.World, f.Steps, f.Err, f.Shortest, f.Trace, f.ShortestErr)
}

// outcome is a world that has been run.
type outcome struct {
	number uint64
	result
}

// collectAt is how much the heap may grow between collections, in percent. All of a world is
// garbage when it ends, about a megabyte, so what is live is the worlds that run: a few megabytes.
// At 100, collections took a fourth of the time; more than this saves nothing that can be measured.
const collectAt = 1000

// Run runs worlds until one fails, or as many as the options say, or until ctx ends. Meanwhile the
// program collects garbage less often.
func Run(ctx context.Context, o Options) *Report {
	defer debug.SetGCPercent(debug.SetGCPercent(collectAt))
	var next, bad atomic.Uint64 // bad: the lowest number of a world that has failed
	bad.Store(math.MaxUint64)
	var end time.Time
	if o.Time > 0 {
		end = time.Now().Add(o.Time)
	}
	outcomes := make(chan outcome)
	work := func() {
		for {
			n := next.Add(1) - 1
			if o.Worlds > 0 && n >= o.Worlds || o.Time > 0 && time.Now().After(end) || ctx.Err() != nil {
				return
			}
			if n += o.First; n > bad.Load() {
				return
			}
			outcomes <- outcome{n, live(o.Seed, n)}
		}
	}
	if o.Workers == 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	var all sync.WaitGroup
	for range o.Workers {
		all.Go(work)
	}
	go func() {
		all.Wait()
		close(outcomes)
	}()
	r := new(Report)
	var failed outcome
	said := time.Now()
	for w := range outcomes {
		r.Worlds++
		r.Steps += uint64(len(w.steps))
		r.Messages += uint64(w.received)
		if w.err != nil && w.number < bad.Load() {
			failed = w
			bad.Store(w.number)
		}
		if o.Say != nil && time.Since(said) > time.Minute {
			said = time.Now()
			o.Say(fmt.Sprintf("%d worlds, %d messages to clients", r.Worlds, r.Messages))
		}
	}
	if failed.err != nil {
		r.Failure = explain(o.Seed, failed.number, &failed.result)
	}
	return r
}

// explain finds the shortest trace of a failure.
func explain(seed, number uint64, r *result) *Failure {
	f := &Failure{Seed: seed, World: number, Err: r.err, Steps: len(r.steps)}
	end := time.Now().Add(shrinkTime)
	steps := shrink(r.steps, func(s []step) bool { return time.Now().Before(end) && replay(s, nil).err != nil })
	var log strings.Builder
	f.ShortestErr = replay(steps, &log).err
	f.Shortest, f.Trace = len(steps), log.String()
	return f
}

// result is what became of a world.
type result struct {
	err      error
	steps    []step // the first one has the choices of the layout
	received int    // messages to clients
}

// live runs a world at random.
func live(seed, number uint64) (r result) {
	w := newWorld(seeded(seed, number), nil)
	left := length
	if number%10 == 9 {
		left = longLength
	}
	r.err = w.guard(w.begin)
	r.steps = append(make([]step, 0, left), step{-1, w.picks})
	if r.err != nil {
		r.finish(w)
		return r
	}
	r.err = w.guard(func() {
		for range left {
			i := w.choose()
			if i < 0 {
				continue
			}
			w.begins()
			r.steps = append(r.steps, step{i, nil})
			last := &r.steps[len(r.steps)-1]
			func() {
				defer func() { last.picks = w.picks }()
				w.act(i)
			}()
			if w.failure != nil {
				return
			}
		}
	})
	r.finish(w)
	return r
}

// replay runs the world of a trace. log gets what happens; nil: nobody wants to know.
func replay(steps []step, log *strings.Builder) (r result) {
	w := newWorld(chooser{picks: steps[0].picks}, log)
	r.steps = steps
	r.err = w.guard(func() {
		w.begin()
		for _, s := range steps[1:] {
			w.picks, w.at = s.picks, 0
			w.act(s.actor)
			if w.failure != nil {
				return
			}
		}
	})
	r.finish(w)
	return r
}

// finish brings a world to its end.
func (r *result) finish(w *world) {
	w.rng, w.picks, w.at = nil, nil, 0
	if r.err == nil {
		r.err = w.guard(w.settle)
	}
	r.received = w.received
	w.close()
}

// guard runs f until a failure.
func (w *world) guard(f func()) (err error) {
	defer func() {
		if v := recover(); v == errStop {
			err = w.failure
		} else if v != nil {
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	f()
	return w.failure
}
