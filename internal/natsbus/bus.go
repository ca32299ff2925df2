// Package natsbus owns the connections to NATS: the order of arrival, the publishing of requests, the
// subscriptions to resources' events, reconnecting, and the matching of answers to requests.
//
// Each connection is a link with two goroutines. The dispatcher takes everything that arrives on the
// connection (events, answers, system and token messages) out of one channel, in the order of arrival,
// looks at the subject only, and hands it to the Receiver. The publisher is the only one who calls
// into nats.go to publish or subscribe, because that takes a lock and can block in a full socket.
// Owners reach it through a Caller, which collects a turn's operations and hands them over as a batch.
//
// It never parses JSON, never blocks an owner, and knows nothing of clients or of what a resource holds.
package natsbus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"sluice/internal/owner"
	"sluice/internal/secret"
)

// What a request can end with instead of an answer.
var (
	ErrTimeout         = errors.New("natsbus: no answer within the request timeout")
	ErrDisconnected    = fmt.Errorf("%w: NATS is disconnected", ErrTimeout)
	ErrCut             = fmt.Errorf("%w: the connection was lost before the reply", ErrDisconnected)
	ErrNoResponders    = errors.New("natsbus: no service listens to the subject")
	ErrSubjectTooLong  = errors.New("natsbus: subject too long for the NATS control line")
	ErrBadSubject      = errors.New("natsbus: invalid subject")
	ErrPayloadTooLarge = errors.New("natsbus: payload larger than the NATS server accepts")
	ErrOverloaded      = errors.New("natsbus: too many requests are waiting for NATS")
	ErrRefused         = errors.New("NATS refuses the subscription")
	ErrAbandoned       = errors.New("natsbus: the client that asked has gone")
	ErrClosed          = errors.New("natsbus: closed")
)

// Signal is a change in how far the stream of a connection can be trusted.
type Signal uint8

const (
	// Connected: the connection is up, its subscriptions are in place.
	Connected Signal = iota + 1
	// Disconnected: the connection is lost; reconnecting goes on until Close. Each owner then calls Caller.Cut.
	Disconnected
	// Gap: messages may have been missed, because of a cut (then it follows Connected) or because they
	// came faster than they could be dispatched. Requests made from now on are answered after every
	// message that was not missed, so what they fetch is whole again. Each owner then calls Caller.Recheck.
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

// Receiver takes what arrives. Its methods are called in the order of arrival, by the dispatcher of
// the connection (with several connections: one goroutine for each), and must not block. data is
// immutable and may be kept; nats.go makes a new slice for every message.
type Receiver interface {
	// Event takes event.<name>.<event>; the name may have dots, the event has none.
	Event(name, event string, data []byte)
	// System takes system.<event>. It comes from the first connection only.
	System(event string, data []byte)
	// Token takes conn.<cid>.token. It comes from the first connection only.
	Token(cid string, data []byte)
	// Reply takes the answer to a request. It is to be given to Caller.Deliver of the owner named in it,
	// on that owner's goroutine. Requests that fail before they reach NATS come here too, from
	// whichever goroutine noticed it, the owner's own included.
	Reply(r Reply)
	// Refused says that NATS refuses the events of a resource, which counts as unsubscribed from now on. It
	// comes before every reply that was sent after the subscription. err says so to clients (ErrRefused).
	// It may come from any goroutine, as may Missed.
	Refused(name string, err error)
	// Missed says that events of a resource may have been missed.
	Missed(name string)
}

// Reply is an answer on its way to the Caller that asked.
type Reply struct {
	Owner uint32 // the number given to NewCaller
	Err   error  // ErrNoResponders, or why the request was not sent; nil with an answer
	Data  []byte // immutable, may be kept

	made, slot, gen uint32
	expired         bool // all that was received before the request's time was over has been handed on
}

// HashName is the hash by which names are spread over connections.
func HashName(name string) uint64 { return xxhash.Sum64String(name) }

// Options are fixed when Connect is called. Zero values mean the default in parentheses.
type Options struct {
	URL       secret.URLs              // one address or several, comma-separated (nats://127.0.0.1:4222)
	InProcess func() (net.Conn, error) // when set, connections come from it and URL only names them
	Name      string                   // shown by the NATS server ("sluice")
	Creds     string                   // user credentials file
	Cert, Key string                   // client certificate and key files, both or none
	RootCAs   []string                 // CA files the server's certificate is checked against
	Conns     int                      // connections (1); a name's traffic is always on one of them
	Receiver  Receiver                 // required
	Signal    func(conn int, s Signal) // called by the connection's dispatcher, in order with messages; must not block
	Log       *slog.Logger             // (none)
	Metrics   *Metrics                 // (one of its own)
	Faults    *owner.Faults            // takes note of panics that were contained (none)

	RequestTimeout time.Duration // until a request fails with ErrTimeout (3 s)
	ConnectTimeout time.Duration // all tries of Connect together (30 s)
	WriteTimeout   time.Duration // a write that takes longer cuts the connection, which then reconnects (10 s)
	Ping           time.Duration // between pings; with two of them unanswered the connection counts as lost (10 s)
	PendingLimit   int           // messages of one connection waiting for its dispatcher; beyond it they are dropped: Gap (65,536)
	QueueLimit     int           // requests of one connection waiting for its publisher; beyond it: ErrOverloaded (262,144)
	QueueBytes     int           // the same limit for the bytes of their payloads (64 MiB)
	RequestLimit   int           // requests under way of one Caller; beyond it: ErrOverloaded (262,144)

	retryMin, retryMax time.Duration // bounds of the pause between two tries to connect
	settled            time.Duration // a connection that stood for so long is no sign of an unstable server
	hold               time.Duration // how long, at least, a connection of an unstable server must stand before it counts
	closeGrace         time.Duration // how long Close waits for a server that does not read before it cuts the connection
}

func (o Options) withDefaults() Options {
	setDefault(&o.URL, "nats://127.0.0.1:4222")
	setDefault(&o.Name, "sluice")
	setDefault(&o.Conns, 1)
	setDefault(&o.RequestTimeout, 3*time.Second)
	setDefault(&o.ConnectTimeout, 30*time.Second)
	setDefault(&o.WriteTimeout, 10*time.Second)
	setDefault(&o.Ping, 10*time.Second)
	setDefault(&o.PendingLimit, 1<<16)
	setDefault(&o.QueueLimit, 1<<18)
	setDefault(&o.QueueBytes, 64<<20)
	setDefault(&o.RequestLimit, 1<<18)
	setDefault(&o.retryMin, 100*time.Millisecond)
	setDefault(&o.retryMax, 2*time.Second) // whoever waits for NATS has a grace period, and it may be short
	setDefault(&o.settled, 10*time.Second)
	setDefault(&o.hold, 500*time.Millisecond)
	setDefault(&o.closeGrace, 2*time.Second)
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

	closed atomic.Bool
}

// Connect opens all connections. While NATS cannot be reached it tries again, with growing pauses,
// until ConnectTimeout has passed or ctx ends; what cannot become better by waiting (credentials
// refused, files missing) fails at once. The error names the address, without user and password, and
// says what to do. The Receiver may be called before Connect returns.
func Connect(ctx context.Context, o Options) (*Bus, error) {
	o = o.withDefaults()
	if o.Receiver == nil {
		return nil, errors.New("natsbus: no receiver")
	}
	b := &Bus{opts: o}
	ctx, cancel := context.WithTimeout(ctx, o.ConnectTimeout)
	defer cancel()
	for i := range o.Conns {
		l, err := openLink(ctx, &b.opts, i)
		if err != nil {
			b.Close()
			return nil, err
		}
		b.links = append(b.links, l)
	}
	return b, nil
}

// Close publishes what is queued if NATS takes it, closes the connections and returns when no call
// of the Receiver is under way or will come. Requests made afterwards fail with ErrClosed.
func (b *Bus) Close() {
	if b.closed.Swap(true) {
		return
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

// ConnOf returns the number of the connection that carries the events of name and the requests made
// in its name. Requests to auth.… are the exception: they use the first connection, on which the
// token events come that they trigger, so that token and answer keep their order.
func (b *Bus) ConnOf(name string) int {
	if name == "" || len(b.links) == 1 {
		return 0
	}
	return connOf(HashName(name), len(b.links))
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
