package cache

import (
	"log/slog"
	"slices"
	"time"

	"sluice/internal/keyed"
	"sluice/internal/owner"
	"sluice/internal/res"
	"sluice/internal/state"
)

const (
	// tick is the resolution of a shard's timers.
	tick = 10 * time.Millisecond
	// turnMessages bounds the messages of a turn, so that timers and the Bus are served under load.
	turnMessages = 1024
	// maxName bounds the length of resource names: their subjects must fit NATS's control line of
	// 4,096 bytes together with a reply subject.
	maxName = 4000
	// maxDeprecated bounds how many names are remembered for which a deprecation was logged.
	maxDeprecated = 10_000
)

// Shard holds the resources whose names hash to it. Any goroutine may call its methods unless they
// say otherwise. They take effect on the shard's goroutine, in the order of the calls.
//
// Each embedded type has the state of one role, and its own file.
type Shard struct {
	worker       // the goroutine
	inbox        // messages to the shard
	timing       // clock and timers
	broadcast    // updates to the loops
	deprecations // what was logged once

	// Fixed after construction.
	opt     Options
	bus     Bus
	metrics *Metrics
	logs    logs
	handler func(message)

	// Owned by the shard's goroutine.
	parser     res.Parser
	resources  keyed.Table[*resource]
	index      index
	refusals   refusals
	unused     unused
	returns    returns
	step       int  // of the turn
	backlogged bool // the turn has left messages to the next one
	doubt      doubt
	sweepAgain owner.Timer                              // armed while a sweep that panicked waits for its retry
	traced     func(name, event string, payload []byte) // nil: no trace is on; see Trace
}

// NewShard returns a shard that begins to work at Start.
func NewShard(opt Options, bus Bus, loops Loops) *Shard {
	opt.defaults()
	s := &Shard{
		opt:     opt,
		bus:     bus,
		metrics: opt.Metrics,
		returns: newReturns(),
	}
	s.handler = s.handle
	s.now = opt.Clock.Now()
	s.wheel = owner.NewWheel(tick, s.now)
	s.ticker = owner.NewTicker(opt.Clock, s.wheel, s.wake)
	s.worker.init(s.turn, s.ticker.Stop)
	s.inbox.init(&s.opt, s.wake)
	s.broadcast = broadcast{
		loops: loops, limit: opt.BacklogLimit, metrics: opt.Metrics, timing: &s.timing, doubt: &s.doubt,
		laggards: make([]laggards, opt.Loops),
	}
	s.unused = unused{limit: opt.UnusedBytes, metrics: opt.Metrics}
	log := opt.Log.With("shard", opt.Index)
	s.logs = logs{log: log, timing: &s.timing, every: max(opt.LogEvery, 0)}
	s.deprecations = deprecations{log: log, deprecated: make(map[string]struct{})}
	return s
}

// Prepare subscribes to the events of a name as Subscribe does, and then calls first on the shard's
// goroutine. So requests that first makes follow the NATS subscription. Without a Subscribe, the
// subscription ends after Options.EvictAfter.
func (s *Shard) Prepare(name string, first func()) {
	s.Run(func() {
		if s.resources.Get(name) == nil && s.rejected(name) == nil {
			s.addResource(name).vacant(false)
		}
		first()
	})
}

// rejected returns why a name that is not cached cannot be subscribed; nil if it can.
func (s *Shard) rejected(name string) *res.Error {
	switch {
	case len(name) > maxName:
		return res.ErrSubjectTooLong
	case !res.ValidName(name):
		return res.ErrInvalidRequest
	}
	return s.refusals.find(name, s.now)
}

// Reset makes the shard refetch every cached resource whose name matches one of the patterns, and
// send the differences to the loops (RES.md 3.2, system.reset).
func (s *Shard) Reset(patterns []res.Pattern) {
	patterns = slices.Clone(patterns)
	s.Run(func() { s.reset(patterns) })
}

// Refetch makes the shard refetch a resource after a loop's copy of it became doubtful, and brings
// every loop up to date.
func (s *Shard) Refetch(name string) {
	s.Run(func() {
		if r := s.resources.Get(name); r != nil {
			s.doubt.r = r
			s.startOver(r)
		}
	})
}

// ResetAll does the same for all cached resources, after a gap in which events may not have reached
// the gateway. Unlike after Reset, a get without a reply does not delete a resource: it is retried.
func (s *Shard) ResetAll() { s.Run(s.resetAll) }

func (s *Shard) handle(m message) {
	s.doubt = doubt{handling: true}
	s.arrived = m.at
	switch m.kind {
	case msgSubscribe:
		s.subscribe(int(m.loop), m.ref, m.name, m.name2, m.do)
	case msgUnsubscribe:
		s.unsubscribe(int(m.loop), m.ref, m.name, m.name2)
	case msgEvent:
		s.queued.Add(-int64(len(m.payload)))
		s.metrics.Events.Add(1)
		if s.traced != nil {
			s.traced(m.name, m.name2, m.payload)
		}
		if r := s.resources.Get(m.name); r != nil {
			s.doubt.r = r
			r.event(m.name2, m.payload)
		}
	case msgDo:
		m.do()
	}
	s.doubt.handling = false
	s.pending.Add(-1)
}

func (s *Shard) subscribe(loop int, ref uint64, name, query string, first func()) {
	s.doubt.joining = subKey{loop, ref}
	var err *res.Error
	r := s.resources.Get(name)
	if r == nil {
		err = s.rejected(name)
	}
	if err == nil && !r.has(query) {
		err = s.largeBefore(name, query)
	}
	if r == nil && err == nil {
		r = s.addResource(name)
	}
	s.doubt.r = r
	if first != nil {
		first()
	}
	if err != nil {
		s.loops.Post(loop, state.Update{Ref: ref, Kind: state.Failed, Err: err})
		return
	}
	e, l := r.find(query)
	if e == nil {
		e = r.addEntry(query)
		e.get()
	}
	e.addSub(l, loop, ref)
}

func (s *Shard) unsubscribe(loop int, ref uint64, name, query string) {
	r := s.resources.Get(name)
	if r == nil {
		return
	}
	s.doubt.r = r
	e, _ := r.find(query)
	if e == nil {
		return
	}
	if sb := e.subs.find(loop, ref); sb != nil {
		sb.remove()
	}
}

// deprecations logs the use of deprecated forms, once for each resource name.
type deprecations struct {
	log        *slog.Logger
	deprecated map[string]struct{}
}

func (d *deprecations) deprecate(name, what string) {
	if _, known := d.deprecated[name]; known || len(d.deprecated) >= maxDeprecated {
		return
	}
	d.deprecated[name] = struct{}{}
	d.log.Warn("deprecated: "+what, "resource", name)
}
