package natsbus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/internal/loglimit"
	"sluice/internal/owner"
	"sluice/internal/secret"
)

// link is one connection to NATS: what its dispatcher, its publisher, nats.go's callbacks and the
// owners share. nats.go restores a connection that is lost; the publisher replaces one that nats.go
// has closed for good. At most one nats.Conn is open, and its callbacks follow all those of the one
// before.
type link struct {
	// Fixed after construction.
	opts     *Options
	number   int
	inbox    string      // prefix of reply subjects, with the final dot
	watch    chan<- beat // nil if the cluster is not watched
	settings nats.Options
	age      owner.Clock // by which connections last; the machine's, as for nats.go

	// The newest connection. Written by openLink, then by the publisher.
	nc newest

	// From nats.go's goroutines to the dispatcher.
	msgs    chan *nats.Msg
	changes chan change

	// From any goroutine to the publisher.
	queue       *owner.Mailbox[*batch]
	queued      atomic.Int64 // operations in queue
	queuedBytes atomic.Int64 // their payloads
	work        chan struct{}
	back        chan struct{} // nats.go has restored the connection
	lost        chan struct{} // nats.go has closed the connection

	// The server's limits. Written by nats.go's callbacks, read by owners.
	lineLimit  atomic.Int32 // of a protocol line
	maxPayload atomic.Int64 // of the newest connection

	// Owned by the dialling goroutine: openLink's, then nats.go's reconnect loop or the publisher.
	dialError error // of the newest dial

	patience atomic.Int64 // Timeouts.RequestTimeout; written by Bus.Adjust

	up      atomic.Bool
	epoch   atomic.Uint32              // number of the connection, from 1
	flaps   atomic.Int32               // consecutive short-lived connections, up to now
	longest atomic.Int32               // length of the longest protocol line since the server rejected one
	socket  atomic.Pointer[strictConn] // the newest
	dials   context.Context            // ends when the link closes, which aborts dialling
	cancel  context.CancelFunc

	// Owned by nats.go's callbacks, which run one at a time.
	since time.Duration // of the newest connection, by age
	url   string        // connected to, without credentials
	why   error         // the newest error that the server sent on it
	cut   bool          // whether it is lost

	denials  loglimit.Limiter // of lines about denials
	troubles loglimit.Limiter // of lines about other errors of the server
	failures loglimit.Limiter // of lines about subscriptions that nats.go does not make or end

	base  base
	marks marks
	wild  *wildcards // nil: there are none

	// Subscriptions are numbered in the order in which they are made; a new connection adds one
	// number.
	made       atomic.Uint32         // the newest; written by the publisher and nats.go's callbacks
	confirmed  atomic.Uint32         // the server has judged those up to it; written by dispatcher and publisher
	renewed    atomic.Uint32         // made when the connection was made: older subscriptions were repeated then
	judged     atomic.Pointer[error] // the newest denial for lack of permission that has been handled
	verdict    chan struct{}         // signals judged, or the end of resolving
	tooMany    atomic.Uint32         // subscriptions denied for their number and not resolved
	resolving  atomic.Bool           // the publisher has to determine which
	unresolved atomic.Bool           // it could not

	// The end, in order.
	closing    chan struct{}
	published  chan struct{}
	stopping   chan struct{}
	dispatched chan struct{}

	first chan struct{} // closed by the dispatcher when it has signalled the first Connected
}

// change is a change of a connection. Disconnected counts immediately, Connected after hold.
type change struct {
	to   Signal
	hold time.Duration
	url  string // connected to, without credentials
}

// newLink returns a link without a connection. Its goroutines do not run yet. inbox is the token of
// its reply subjects.
func newLink(o *Options, number int, inbox string, age owner.Clock) *link {
	l := &link{
		opts:       o,
		number:     number,
		inbox:      "_INBOX." + inbox + ".",
		age:        age,
		msgs:       make(chan *nats.Msg, o.PendingLimit),
		changes:    make(chan change, 16),
		work:       make(chan struct{}, 1),
		back:       make(chan struct{}, 1),
		lost:       make(chan struct{}, 1),
		verdict:    make(chan struct{}, 1),
		closing:    make(chan struct{}),
		published:  make(chan struct{}),
		stopping:   make(chan struct{}),
		dispatched: make(chan struct{}),
		first:      make(chan struct{}),
	}
	l.patience.Store(int64(o.RequestTimeout))
	l.wild = newWildcards(o.Wildcards, number, o.Conns)
	l.base.init(l)
	l.marks.init()
	l.lineLimit.Store(maxControlLine)
	l.epoch.Store(1)
	l.queue = owner.NewMailbox[*batch](func() { poke(l.work) })
	l.dials, l.cancel = context.WithCancel(context.Background())
	return l
}

// openLink connects, makes the base subscriptions and starts the link's goroutines.
func openLink(ctx context.Context, o *Options, number int, watch chan<- beat) (*link, error) {
	l := newLink(o, number, rand.Text(), systemClock)
	l.watch = watch
	detach := context.AfterFunc(ctx, l.cancel) // only while connecting for the first time
	go newDispatcher(l).dispatch()
	p := newPublisher(l)
	err := p.connect(ctx)
	if err == nil && !detach() {
		l.nc.Load().Close()
		err = fmt.Errorf("connecting to NATS: %w", ctx.Err())
	}
	if err == nil {
		select {
		case <-l.first:
		case <-ctx.Done():
			l.nc.Load().Close()
			err = fmt.Errorf("NATS at %s closes every new connection: %w", o.URL, ctx.Err())
		}
	}
	if err != nil {
		l.cancel()
		close(l.stopping)
		<-l.dispatched
		return nil, err
	}
	poke(l.back) // probes
	go p.publish()
	return l, nil
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// emit queues a change for the dispatcher; called by nats.go's callbacks.
func (l *link) emit(c change) {
	select {
	case l.changes <- c:
	case <-l.stopping:
	}
}

// onConnect is called when a new connection is made, onReconnect when nats.go has restored it.
func (l *link) onConnect(nc Conn) { l.stands(nc) }

func (l *link) onReconnect(nc Conn) {
	l.opts.Metrics.Reconnects.Inc()
	l.opts.Metrics.Subscribes.Add(uint64(nc.NumSubscriptions())) // nats.go has repeated them
	l.stands(nc)
	poke(l.back)
}

func (l *link) stands(nc Conn) {
	if s := l.socket.Load(); s != nil {
		s.connected()
	}
	l.maxPayload.Store(nc.MaxPayload())
	l.base.refused.Store(nil)
	l.wild.renew()
	l.renewed.Store(l.made.Add(1))
	hold := l.hold()
	l.since, l.why, l.cut = l.age.Now(), nil, false
	if url := nc.ConnectedUrl(); url != "" { // it may be lost again
		l.url = secret.URLs(url).String()
	}
	l.emit(change{to: Connected, hold: hold, url: l.url})
}

func (l *link) onDisconnect(nc Conn, err error) {
	l.cut = true
	l.up.Store(false)
	l.epoch.Add(1)
	if l.why != nil {
		err = l.why // what the server said is the reason for the end of input that nats.go saw
	} else if last := nc.LastError(); err == nil && last != nil {
		err = last
	}
	l.why = err
	if l.age.Now()-l.since < l.opts.settled {
		l.flaps.Add(1)
	} else {
		l.flaps.Store(1)
	}
	m := l.opts.Metrics
	m.Disconnects.Inc()
	reason := ReasonOf(err)
	m.Lost[reason].Inc()
	l.opts.Log.Warn("NATS connection lost", "connection", l.number, "reason", reason.String(), "error", l.opts.scrub(err))
	l.emit(change{to: Disconnected})
}

// onLameDuck is called when the server has announced its shutdown (lame duck mode). The server then
// closes its connections one by one, and nats.go reconnects to another server.
func (l *link) onLameDuck() {
	l.opts.Log.Warn("NATS server is shutting down (lame duck mode); the connection moves to another server when it closes",
		"connection", l.number, "url", l.url)
}

// onClosed is called when nats.go has closed a connection for good.
func (l *link) onClosed(nc Conn) {
	if !l.cut {
		l.onDisconnect(nc, nc.LastError()) // nats.go was about to call it
	}
	if ReasonOf(nc.LastError()) == LongLine {
		l.learnLineLimit()
	}
	poke(l.lost)
}

// hold returns the probation of a new connection. A server may accept connections and close them
// again and again, for example until it gets newer credentials. Without a probation, each of them
// would cause a refetch of everything.
func (l *link) hold() time.Duration {
	flaps, least := l.flaps.Load(), int32(3)
	if ReasonOf(l.why) == Unauthorized {
		least = 0
	}
	if flaps <= least {
		return 0
	}
	return l.opts.hold * time.Duration(min(flaps-least, 4))
}

// learnLineLimit lowers lineLimit after the server has closed the connection because of a long
// line. A server does not announce its limit; operators choose powers of two.
func (l *link) learnLineLimit() {
	longest := l.longest.Swap(0)
	limit := int32(maxControlLine)
	for limit >= longest && limit > leastLineLimit {
		limit /= 2
	}
	if longest == 0 || limit >= l.lineLimit.Load() {
		return
	}
	l.lineLimit.Store(limit)
	l.opts.Log.Error("NATS accepts only shorter protocol lines than usual, so longer subjects are rejected; raise max_control_line in the server's configuration and restart the gateway",
		"connection", l.number, "longest", longest, "limit", limit)
}

// leastLineLimit is the lowest limit that is learnt. A gateway needs longer subjects than that.
const leastLineLimit = 256

func (l *link) onError(sub *nats.Subscription, err error) {
	switch {
	case errors.Is(err, nats.ErrSlowConsumer):
		if sub != nil && l.marks.returned(sub.Subject) {
			return
		}
		l.opts.Metrics.SlowConsumer.Inc() // the dispatcher signals the Gap
	case errors.Is(err, nats.ErrPermissionViolation):
		l.violation(err)
	case errors.Is(err, nats.ErrMaxSubscriptionsExceeded):
		l.tooMany.Add(1)
		if !l.resolving.Swap(true) {
			l.post(opResolve, "")
		}
	default:
		if ReasonOf(l.why) == Broken { // what the server said says more than that a write fails after it
			l.why = err
		}
		l.troubles.Log(l.opts.Log, slog.LevelError, systemClock.Now(), denialsEvery, "NATS error", "connection", l.number, "error", l.opts.scrub(err))
	}
}

func (l *link) close() {
	cut := time.AfterFunc(l.opts.closeGrace, func() {
		if s := l.socket.Load(); s != nil {
			s.Close()
		}
	})
	close(l.closing)
	if !l.up.Load() {
		l.cancel()
	}
	<-l.published
	l.cancel()
	nc := l.nc.Load()
	if l.up.Load() {
		// An error means that the server is gone: nothing more can be done for what was published.
		_ = nc.FlushTimeout(l.opts.closeGrace)
	}
	nc.Close()
	cut.Stop()
	if s := l.socket.Load(); s != nil {
		_ = s.Close() // of an attempt that nats.go has given up
	}
	close(l.stopping)
	<-l.dispatched
}
