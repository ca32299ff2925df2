package cache

import (
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sluice/internal/owner"
	"sluice/internal/res"
	"sluice/internal/state"
)

const (
	// tick is the grain of a shard's timers.
	tick = 10 * time.Millisecond
	// turnMessages bounds a turn, so that timers and the Bus get their time under load.
	turnMessages = 1024
	// maxName bounds the length of resource names: the subjects made of them must fit NATS's control line of 4,096 bytes
	// together with a reply subject.
	maxName = 4000
	// maxDeprecated bounds the memory of which names a deprecation has been logged for.
	maxDeprecated = 10_000
)

// Shard holds the resources whose names hash to it. Methods may be called from any goroutine unless they say otherwise;
// what they ask for happens on the shard's goroutine, in the order of the calls.
type Shard struct {
	// Fixed after construction.
	opt     Options
	bus     Bus
	loops   Loops
	metrics *Metrics
	log     *slog.Logger
	mail    *owner.Mailbox[message]
	handler func(message)
	wakeups chan struct{}

	// Shared with those who put messages.
	pending atomic.Int64 // messages put and not handled to the end
	queued  atomic.Int64 // bytes of event payloads in the mailbox
	lost    lossLog

	// Owned by the shard's goroutine.
	now        time.Duration
	wheel      *owner.Wheel
	ticker     *owner.Ticker
	parser     res.Parser
	resources  map[string]*resource
	index      index
	laggards   []laggards // by loop
	catchUp    owner.Timer
	deprecated map[string]struct{}
	step       int  // of the turn
	behind     bool // the turn has left messages to the next one
	doubt      doubt
	sweepAgain owner.Timer // armed while a sweep that panicked waits to be repeated
	refusals   refusals

	// Life of the goroutine.
	stopping atomic.Bool
	stopOnce sync.Once
	started  atomic.Bool
	stopped  chan struct{}
}

type messageKind uint8

const (
	msgSubscribe messageKind = iota
	msgUnsubscribe
	msgEvent
	msgDo
)

// message is what the mailbox holds. name2 is a sub's query or an event's name.
type message struct {
	kind    messageKind
	loop    int32
	ref     uint64
	name    string
	name2   string
	payload []byte
	do      func()
}

// NewShard makes a shard. It does nothing before Start.
func NewShard(opt Options, bus Bus, loops Loops) *Shard {
	opt.defaults()
	s := &Shard{
		opt:        opt,
		bus:        bus,
		loops:      loops,
		metrics:    opt.Metrics,
		log:        opt.Log.With("shard", opt.Index),
		wakeups:    make(chan struct{}, 1),
		now:        opt.Clock.Now(),
		resources:  make(map[string]*resource),
		laggards:   make([]laggards, opt.Loops),
		deprecated: make(map[string]struct{}),
		stopped:    make(chan struct{}),
	}
	s.handler = s.handle
	s.mail = owner.NewMailbox[message](s.wake)
	s.wheel = owner.NewWheel(tick, s.now)
	s.ticker = owner.NewTicker(opt.Clock, s.wheel, s.wake)
	return s
}

// Start starts the shard's goroutine.
func (s *Shard) Start() {
	if !s.started.Swap(true) {
		go s.loop()
	}
}

// Stop ends the shard's goroutine and waits until it has ended. What is in the mailbox then is not handled any more. It must
// not be called on the shard's goroutine.
func (s *Shard) Stop() {
	s.stopOnce.Do(func() {
		s.stopping.Store(true)
		s.wake()
		if !s.started.Swap(true) {
			close(s.stopped) // there is no goroutine, and there will be none
		}
	})
	<-s.stopped
}

func (s *Shard) loop() {
	defer close(s.stopped)
	for range s.wakeups {
		if s.stopping.Load() {
			s.ticker.Stop()
			return
		}
		s.turn()
	}
}

// wake makes the goroutine take a turn. It never blocks.
func (s *Shard) wake() {
	select {
	case s.wakeups <- struct{}{}:
	default:
	}
}

// Wheel is the wheel that the shard advances at the start of each turn: for timers of those who live on its goroutine, such
// as the requests of its Bus. To be used on the shard's goroutine, or before Start.
func (s *Shard) Wheel() *owner.Wheel { return s.wheel }

// Now is the time of the present turn. To be used like Wheel.
func (s *Shard) Now() time.Duration { return s.now }

// Pending is how many messages have been put and not been handled to the end. 0 means that all that the caller knows to
// have been put has taken effect, updates posted to loops included.
func (s *Shard) Pending() int { return int(s.pending.Load()) }

func (s *Shard) put(m message) {
	s.pending.Add(1)
	s.mail.Put(m)
}

// Subscribe makes the shard tell a loop about the resource <name>?<query>, under the name ref: one Loaded or Failed, then
// whatever happens to it. ref must be one that the loop never used before. first, if not nil, is called on the shard's
// goroutine: what it asks of the Bus comes after the NATS subscription of the name and before the get (RES.md 3.3).
func (s *Shard) Subscribe(loop int, ref uint64, name, query string, first func()) {
	s.put(message{kind: msgSubscribe, loop: int32(loop), ref: ref, name: name, name2: query, do: first})
}

// Unsubscribe ends what Subscribe with the same arguments began, at any time after it. Updates that are under way may
// still reach the loop.
func (s *Shard) Unsubscribe(loop int, ref uint64, name, query string) {
	s.put(message{kind: msgUnsubscribe, loop: int32(loop), ref: ref, name: name, name2: query})
}

// Event hands over what came on event.<name>.<event>. payload must not be changed any more. If the mailbox is full the
// event is dropped; the resource is then fetched anew and access to it asked again.
func (s *Shard) Event(name, event string, payload []byte) {
	size := int64(len(payload))
	full := s.mail.Len() >= s.opt.MailboxLimit || s.queued.Load()+size > int64(s.opt.MailboxBytes)
	if s.lost.drop(name, full) {
		s.metrics.EventsLost.Add(1)
		s.wake()
		return
	}
	s.queued.Add(size)
	s.put(message{kind: msgEvent, name: name, name2: event, payload: payload})
}

// Reset makes the shard fetch every cached resource anew whose name matches one of the patterns, and send on the
// differences (RES.md 3.2, system.reset).
func (s *Shard) Reset(patterns []res.Pattern) {
	patterns = slices.Clone(patterns)
	s.Run(func() { s.reset(patterns) })
}

// Refetch makes the shard fetch a resource anew of which what a loop has is in doubt, and brings every loop up to date.
func (s *Shard) Refetch(name string) {
	s.Run(func() {
		if r := s.resources[name]; r != nil {
			s.doubt.r = r
			s.startOver(r)
		}
	})
}

// ResetAll does the same for all cached resources, after a time in which events may not have reached the gateway. Unlike
// with Reset, silence of a service is no reason to take a resource for deleted: it is asked again until it answers.
func (s *Shard) ResetAll() { s.Run(s.resetAll) }

// Run runs f on the shard's goroutine: answers, and what else must happen in order with the rest.
func (s *Shard) Run(f func()) { s.put(message{kind: msgDo, do: f}) }

func (s *Shard) handle(m message) {
	s.doubt = doubt{handling: true}
	switch m.kind {
	case msgSubscribe:
		s.subscribe(int(m.loop), m.ref, m.name, m.name2, m.do)
	case msgUnsubscribe:
		s.unsubscribe(int(m.loop), m.ref, m.name, m.name2)
	case msgEvent:
		s.queued.Add(-int64(len(m.payload)))
		s.metrics.Events.Add(1)
		if r := s.resources[m.name]; r != nil {
			s.doubt.r = r
			s.event(r, m.name2, m.payload)
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
	r := s.resources[name]
	switch {
	case r != nil:
	case len(name) > maxName:
		err = res.ErrSubjectTooLong
	case !res.ValidName(name):
		err = res.ErrInvalidRequest
	default:
		err = s.refusals.stands(name, s.now)
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
		s.get(e)
	}
	s.addSub(e, l, loop, ref)
}

func (s *Shard) unsubscribe(loop int, ref uint64, name, query string) {
	r := s.resources[name]
	if r == nil {
		return
	}
	s.doubt.r = r
	e, _ := r.find(query)
	if e == nil {
		return
	}
	if sb := e.subs.find(loop, ref); sb != nil {
		s.removeSub(sb)
	}
}

// deprecate logs the use of something outdated, once for each resource name.
func (s *Shard) deprecate(name, what string) {
	if _, known := s.deprecated[name]; known || len(s.deprecated) >= maxDeprecated {
		return
	}
	s.deprecated[name] = struct{}{}
	s.log.Warn("deprecated: "+what, "resource", name)
}
