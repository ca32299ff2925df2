// Package natsbus owns the connections to NATS: the order of arrival, the publishing of requests,
// the subscriptions to resources' events, reconnecting, and the matching of answers to requests.
//
// Each connection is a link with two goroutines. The dispatcher receives everything that arrives on
// the connection (events, replies, system and token messages) from one channel, in the order of
// arrival. It reads the subject only, and calls the Receiver. The publisher alone calls into
// nats.go to publish or subscribe, because that takes a lock and can block on a full socket. Owners
// reach it through a Caller, which collects a turn's operations and enqueues them as a batch.
//
// It never parses JSON, never blocks an owner, and knows nothing of clients or of what a resource
// holds.
package natsbus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"sluice/internal/limit"
	"sluice/internal/owner"
	"sluice/internal/secret"
	"sluice/internal/tracing"
)

// The errors that end a request without a reply.
var (
	ErrTimeout         = errors.New("natsbus: no reply within the request timeout")
	ErrQueueTimeout    = fmt.Errorf("%w: the service has too many requests, and this one was not sent", ErrTimeout)
	ErrDisconnected    = fmt.Errorf("%w: NATS is disconnected", ErrTimeout)
	ErrCut             = fmt.Errorf("%w: the connection was lost before the reply", ErrDisconnected)
	ErrNoResponders    = errors.New("natsbus: no service subscribes to the subject")
	ErrSubjectTooLong  = errors.New("natsbus: subject too long for the NATS control line")
	ErrBadSubject      = errors.New("natsbus: invalid subject")
	ErrPayloadTooLarge = errors.New("natsbus: payload larger than the NATS server accepts")
	ErrOverloaded      = errors.New("natsbus: too many requests queued for NATS")
	ErrRefused         = errors.New("NATS refuses the subscription")
	ErrAbandoned       = errors.New("natsbus: the client that asked has gone")
	ErrClosed          = errors.New("natsbus: closed")
)

// Signal is a change in how reliable the stream of a connection is.
type Signal uint8

const (
	// Connected: the connection is up, its subscriptions are in place.
	Connected Signal = iota + 1
	// Disconnected: the connection is lost; reconnecting goes on until Close. Each owner then calls
	// Caller.Cut.
	Disconnected
	// Gap: messages may have been lost, in an outage (then it follows Connected) or in a full
	// queue. Replies to requests made from now on follow every message that was not lost, so
	// refetched state is complete. Each owner then calls Caller.Recheck.
	Gap
)

func (s Signal) String() string {
	switch s {
	case Connected:
		return "connected"
	case Disconnected:
		return "disconnected"
	case Gap:
		return "gap"
	}
	return "unknown"
}

// Receiver gets what arrives. Its methods are called in the order of arrival, by the dispatcher of
// the connection (with several connections: one goroutine for each), and must not block. data is
// immutable and may be kept; nats.go makes a new slice for every message.
type Receiver interface {
	// Event takes event.<name>.<event>; the name may have dots, the event has none. It had arrived
	// at the time at of Options.Clock.
	Event(name, event string, data []byte, at time.Duration)
	// System takes system.<event>. It comes from the first connection only.
	System(event string, data []byte)
	// Token takes conn.<cid>.token. It comes from the first connection only.
	Token(cid string, data []byte)
	// Reply takes the reply to a request, and passes it to Caller.Deliver of its owner on the
	// owner's goroutine. Requests that fail before they reach NATS end here too, on any goroutine,
	// the owner's own included.
	Reply(r Reply)
	// Refused reports that NATS denies the subscription to a resource's events; it is unsubscribed
	// then. The call precedes every reply that was sent after the subscription. err (ErrRefused) is
	// for clients. Any goroutine may call it, and Missed.
	Refused(name string, err error)
	// Missed reports that events of a resource may have been lost.
	Missed(name string)
}

// Reply is the reply to a request, or its failure, addressed to the request's Caller.
type Reply struct {
	Owner uint32 // the number given to NewCaller
	Err   error  // ErrNoResponders, or why the request was not sent; nil for a reply
	Data  []byte // immutable, may be kept

	at              time.Duration // when it was received
	made, slot, gen uint32
	expired         bool // the request timed out, and every message received before that is dispatched
}

// HashName returns the hash that spreads names over connections.
func HashName(name string) uint64 { return xxhash.Sum64String(name) }

// Timeouts of requests. Bus.Adjust and Caller.Adjust change them.
type Timeouts struct {
	RequestTimeout time.Duration // from when a request is sent until it fails with ErrTimeout (3 s)
	QueueTimeout   time.Duration // a request waits so long for its service's limit: ErrQueueTimeout (1 min)
}

// Options are fixed when Connect is called. Zero values mean the default in parentheses.
type Options struct {
	URL       secret.URLs              // one address or several, comma-separated (nats://127.0.0.1:4222)
	Name      string                   // shown by the NATS server ("sluice")
	Creds     string                   // user credentials file
	Nkey      string                   // file of a user's nkey seed
	Cert, Key string                   // client certificate and key files, both or none
	RootCAs   []string                 // CA files the server's certificate is checked against
	Conns     int                      // connections (1); a name's traffic is always on one of them
	Wildcards []string                 // patterns of names whose events come by one subscription each (none)
	Receiver  Receiver                 // required
	Subjects  []string                 // further subjects, which Bus.Listen subscribes to on the first connection (none)
	Signal    func(conn int, s Signal) // called by the connection's dispatcher, in order with messages; must not block
	Log       *slog.Logger             // (none)
	Metrics   *Metrics                 // (one of its own)
	// Message takes what arrives on Subjects, like a method of Receiver. reply may be forged.
	Message func(subject, reply string, data []byte)
	Faults  *owner.Faults // records recovered panics (none)

	// InProcess makes connections without a socket, and URL only names them; nil: URL is dialled.
	// It may wait until ctx ends. If its error has a method Advice() string that returns a text,
	// waiting does not help: the text says what does.
	InProcess func(ctx context.Context) (net.Conn, error)
	// UserKey is the public nkey of the user on such connections; empty: none. Sign signs with it.
	UserKey string
	Sign    func(nonce []byte) ([]byte, error)

	// Services limits the requests in flight at each service. nil: there is no limit.
	Services *limit.Table
	Clock    owner.Clock     // that of the callers (owner.SystemClock)
	Tracer   *tracing.Tracer // records a span of each request with a Request.Trace (none)

	Timeouts
	ConnectTimeout time.Duration // all attempts of Connect together (30 s)
	WriteTimeout   time.Duration // a write that takes longer cuts the connection, which then reconnects (10 s)
	Ping           time.Duration // interval of pings; two without a pong end the connection (10 s)
	Beat           time.Duration // interval of beats through the other servers of the cluster (1 s); negative: it is not watched
	PendingLimit   int           // messages queued for one dispatcher; beyond it they are dropped: Gap (65,536)
	QueueLimit     int           // requests queued for one publisher; beyond it: ErrOverloaded (262,144)
	QueueBytes     int           // the same limit for the bytes of their payloads (64 MiB)
	RequestLimit   int           // requests under way of one Caller; beyond it: ErrOverloaded (262,144)

	tryTimeout         time.Duration // bounds an attempt to connect, until the server has replied to a ping (5 s)
	retryMin, retryMax time.Duration // bounds of the back-off between attempts to connect
	settled            time.Duration // a connection shorter than this makes the server count as unstable
	hold               time.Duration // probation of a connection to an unstable server, at least
	closeGrace         time.Duration // Close waits this long for a server that does not read
}

func (o Options) withDefaults() Options {
	setDefault(&o.URL, "nats://127.0.0.1:4222")
	setDefault(&o.Name, "sluice")
	setDefault(&o.Conns, 1)
	setDefault(&o.RequestTimeout, 3*time.Second)
	setDefault(&o.QueueTimeout, time.Minute)
	setDefault(&o.ConnectTimeout, 30*time.Second)
	setDefault(&o.WriteTimeout, 10*time.Second)
	setDefault(&o.Ping, 10*time.Second)
	setDefault(&o.Beat, time.Second)
	setDefault(&o.PendingLimit, 1<<16)
	setDefault(&o.QueueLimit, 1<<18)
	setDefault(&o.QueueBytes, 64<<20)
	setDefault(&o.RequestLimit, 1<<18)
	setDefault(&o.tryTimeout, 5*time.Second)
	setDefault(&o.retryMin, 100*time.Millisecond)
	setDefault(&o.retryMax, 2*time.Second) // clients are kept for a grace period, which may be short
	setDefault(&o.settled, 10*time.Second)
	setDefault(&o.hold, 500*time.Millisecond)
	setDefault(&o.closeGrace, 2*time.Second)
	if o.Clock == nil {
		o.Clock = owner.SystemClock()
	}
	if o.Signal == nil {
		o.Signal = func(int, Signal) {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if o.Metrics == nil {
		o.Metrics = new(Metrics)
	}
	return o
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// Bus is the set of connections to NATS. Its methods may be called from any goroutine.
type Bus struct {
	// Fixed after construction.
	opts  Options
	links []*link

	cluster *cluster // nil if it is not watched

	closed atomic.Bool
}

// Connect opens all connections. While NATS is unreachable it retries with back-off, until
// ConnectTimeout has passed or ctx ends. What waiting cannot mend (rejected credentials, missing
// files) fails immediately. The error names the address, without credentials, and says what to do.
// The Receiver may be called before Connect returns.
func Connect(ctx context.Context, o Options) (*Bus, error) {
	o = o.withDefaults()
	if o.Receiver == nil {
		return nil, errors.New("natsbus: no receiver")
	}
	b := &Bus{opts: o}
	ctx, cancel := context.WithTimeout(ctx, o.ConnectTimeout)
	defer cancel()
	var watch chan<- beat
	if o.Beat > 0 && o.InProcess == nil {
		b.cluster = newCluster(b)
		watch = b.cluster.beats
	}
	for i := range o.Conns {
		l, err := openLink(ctx, &b.opts, i, watch)
		if err != nil {
			b.cluster = nil
			b.Close()
			return nil, err
		}
		b.links = append(b.links, l)
	}
	if b.cluster != nil {
		b.cluster.start()
	}
	return b, nil
}

// Adjust changes the timeouts of what is not an owner's, and the bounds of the services' limits:
// requests that may be sent by them are.
func (b *Bus) Adjust(t Timeouts, services limit.Options) {
	if b.opts.Services != nil {
		b.opts.Services.Adjust(services)
	}
	for _, l := range b.links {
		l.patience.Store(int64(t.RequestTimeout))
		poke(l.work)
	}
}

// Close publishes what is queued if NATS accepts it, and closes the connections. When it returns,
// no call of the Receiver runs or will start. Later requests fail with ErrClosed.
func (b *Bus) Close() {
	if b.closed.Swap(true) {
		return
	}
	if b.cluster != nil {
		b.cluster.close()
	}
	for _, l := range b.links {
		l.close()
	}
}

// Metrics returns the counters given with the options, or the bus's own.
func (b *Bus) Metrics() *Metrics { return b.opts.Metrics }

// Connected reports whether all connections are up.
func (b *Bus) Connected() bool {
	for _, l := range b.links {
		if !l.up.Load() {
			return false
		}
	}
	return true
}

// Waiting calls emit with how many received messages each connection's dispatcher has yet to take.
func (b *Bus) Waiting(emit func(conn, messages int)) {
	for i, l := range b.links {
		emit(i, len(l.msgs))
	}
}

// ConnOf returns the number of the connection that carries the events of name and the requests made
// in its name. Requests to auth.… are the exception: they use the first connection, which receives
// the token events that they trigger, so that token and reply keep their order.
func (b *Bus) ConnOf(name string) int {
	if name == "" || len(b.links) == 1 {
		return 0
	}
	return connOf(HashName(name), len(b.links))
}

// Spread returns a name for each connection, whose requests use it.
func (b *Bus) Spread() []string {
	names := make([]string, len(b.links))
	for i, left := 0, len(names); left > 0; i++ {
		name := "sluice-" + strconv.Itoa(i)
		if at := &names[b.ConnOf(name)]; *at == "" {
			*at = name
			left--
		}
	}
	return names
}

// connOf uses the high half of the hash: the low bits choose the cache shard, and the two choices
// should not coincide.
func connOf(hash uint64, conns int) int { return int((hash >> 32) % uint64(conns)) }

func (b *Bus) checkName(l *link, name string) error {
	if b.closed.Load() {
		return ErrClosed
	}
	err := checkEventName(name, int(l.lineLimit.Load()))
	if err != nil {
		b.opts.Metrics.reject(err)
	}
	return err
}
