package cache

import (
	"log/slog"
	"sync/atomic"
	"time"

	"sluice/internal/limit"
	"sluice/internal/owner"
	"sluice/internal/res"
	"sluice/internal/state"
)

// Bus connects a shard to the services. The shard calls all methods on its goroutine.
type Bus interface {
	// Subscribe subscribes to the events of a resource name, event.<name>.*, for Shard.Event. It
	// takes effect before later requests.
	Subscribe(name string)
	// Unsubscribe ends Subscribe.
	Unsubscribe(name string)
	// Request sends payload to subject; the Bus owns payload from then on. Replies and events of
	// one name reach the shard in the order of their arrival. done is called once, on the shard's
	// goroutine (see Shard.Run), and never before Request returns. Its payload is valid during the
	// call. Its err replaces a reply: timeout, no responders (system.notFound), or a subject that
	// is too long. The priority counts while the service has too many requests.
	Request(p limit.Priority, name, subject string, payload []byte, done func(payload []byte, err *res.Error))
	// Flush is called at the end of each turn: the turn's requests can be sent as one batch.
	Flush()
}

// Loops connects a shard to the event loops. Any goroutine may call its methods; they do not block.
type Loops interface {
	// Post sends an update to a loop. Updates of one shard to one loop arrive in order.
	Post(loop int, u state.Update)
	// Backlog returns approximately how many updates a loop has yet to handle.
	Backlog(loop int) int
}

// Options of a shard. Only Adjust changes them after NewShard. Zero values mean the defaults.
type Options struct {
	Index int // of the shard, for logs
	Loops int // number of loops; they are 0..Loops-1. Default 1

	// EvictAfter is how long a resource stays cached without subscribers. Default 5 s.
	EvictAfter time.Duration
	// EvictMost is how long one stays that clients have come back to after it was evicted: see
	// returns.go. Default 1 min; not above EvictAfter: none stays longer than that.
	EvictMost time.Duration
	// UnusedBytes bounds the memory of entries without subscribers: above it the least recently
	// used are evicted before EvictAfter has passed. Default 64 MiB.
	UnusedBytes int
	// MaxResource bounds the bytes of a resource: of a reply that has it, and of its JSON after an
	// event. A larger one is not served. Default 16 MiB.
	MaxResource int
	// BacklogLimit is the backlog above which a loop gets no more events of state. At half of that,
	// it gets the newest state instead. Default 16,384.
	BacklogLimit int
	// MailboxLimit and MailboxBytes bound the events in the mailbox, by number of messages and by
	// payload bytes. Above that, events are dropped and their resources refetched. Defaults 65,536
	// and 64 MiB.
	MailboxLimit int
	MailboxBytes int
	// LockedLimit and LockedBytes likewise bound the events deferred by a query event of one name.
	// Defaults 1,024 and 4 MiB.
	LockedLimit int
	LockedBytes int
	// ResetThrottle limits the re-gets in flight, of all shards that share it. nil: no limit.
	ResetThrottle *owner.Throttle

	// LogEvery is how often a kind of line that services can cause is logged; the next line says
	// how many were suppressed. Default 1 s; negative: each is logged.
	LogEvery time.Duration

	Clock   owner.Clock  // default owner.SystemClock()
	Log     *slog.Logger // default: discard
	Metrics *Metrics     // may be shared by shards; default: its own
	// Invalid is called for invalid replies, with the subject of the request. Default: a no-op.
	Invalid func(subject string, err *res.Error)

	// Faults records contained panics; may be nil.
	Faults *owner.Faults
}

func (o *Options) defaults() {
	def(&o.Loops, 1)
	def(&o.EvictAfter, 5*time.Second)
	def(&o.EvictMost, time.Minute)
	def(&o.UnusedBytes, 64<<20)
	def(&o.MaxResource, 16<<20)
	def(&o.BacklogLimit, 16<<10)
	def(&o.MailboxLimit, 64<<10)
	def(&o.MailboxBytes, 64<<20)
	def(&o.LockedLimit, 1<<10)
	def(&o.LockedBytes, 4<<20)
	def(&o.LogEvery, time.Second)
	if o.Clock == nil {
		o.Clock = owner.SystemClock()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = new(Metrics)
	}
	if o.Invalid == nil {
		o.Invalid = func(string, *res.Error) {}
	}
}

func def[T comparable](at *T, value T) {
	var zero T
	if *at == zero {
		*at = value
	}
}

// Metrics are a shard's counters. Shards write them; any goroutine may read them.
type Metrics struct {
	// Gauges.
	Resources     atomic.Int64 // names with a NATS subscription
	Entries       atomic.Int64 // cached or loading
	Bytes         atomic.Int64 // cached keys and values
	Unused        atomic.Int64 // entries without subs
	UnusedBytes   atomic.Int64 // memory of these
	Subscriptions atomic.Int64 // subs of loops
	Behind        atomic.Int64 // subs that have missed events and wait for the newest state

	// Counters.
	Gets          atomic.Int64 // first gets sent
	GetFailures   atomic.Int64 // first gets that failed
	Regets        atomic.Int64 // re-gets sent
	RegetFailures atomic.Int64 // re-gets that failed; the old state stayed
	QueryRequests atomic.Int64 // query requests sent
	QueryFailures atomic.Int64 // query requests that failed; the old state stayed
	Events        atomic.Int64 // events received for cached resources
	EventsApplied atomic.Int64 // events, and steps of differences, that changed a state or were sent on
	EventsBad     atomic.Int64 // malformed, or of the wrong kind for the resource
	EventsLost    atomic.Int64 // dropped from a full queue; the resource was refetched
	CustomLost    atomic.Int64 // custom events dropped since a loop was behind, counted per sub
	Synced        atomic.Int64 // subs that caught up after missing events
	Deletes       atomic.Int64 // entries deleted by their service
	Evictions     atomic.Int64 // entries dropped without subscribers
	EvictedEarly  atomic.Int64 // those of them that were dropped for their memory, before their time
	Returns       atomic.Int64 // resources without subscribers that got one before they were evicted
	LateReturns   atomic.Int64 // resources that got one again within EvictMost, but were evicted
	TooLarge      atomic.Int64 // replies and events rejected because the resource exceeds MaxResource
	Refused       atomic.Int64 // resources dropped because NATS rejects the subscription to their events
}
