package natsbus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/internal/owner"
)

// link is one connection to NATS with its dispatcher and publisher.
type link struct {
	// Fixed after construction.
	opts   *Options
	number int
	inbox  string // prefix of reply subjects, with the final dot
	nc     *nats.Conn

	// From nats.go's goroutines to the dispatcher.
	msgs    chan *nats.Msg
	signals chan Signal

	// From anybody to the publisher.
	queue       *owner.Mailbox[*batch]
	queued      atomic.Int64 // operations in queue
	queuedBytes atomic.Int64 // their payloads
	work        chan struct{}
	restored    chan struct{} // the connection came back

	// Owned by whoever connects: openLink at first, then nats.go's reconnecting.
	dialError error // of the newest dial

	up     atomic.Bool
	socket atomic.Pointer[strictConn] // the newest
	dials  context.Context            // ends when the link closes, and with it any dialling
	cancel context.CancelFunc

	// Owned by the publisher.
	subs  map[string]*nats.Subscription // by resource name
	reply []byte

	// Owned by the dispatcher.
	counts  counts
	overrun int // messages may have been dropped; the Gap is signalled after this many more, or sooner. 0: none were

	// The end, in order.
	closing    chan struct{}
	published  chan struct{}
	stopping   chan struct{}
	dispatched chan struct{}
}

// openLink connects, subscribes to what the link always needs, and starts its goroutines.
func openLink(ctx context.Context, o *Options, number int) (*link, error) {
	l := &link{
		opts:       o,
		number:     number,
		inbox:      "_INBOX." + rand.Text() + ".",
		msgs:       make(chan *nats.Msg, o.PendingLimit),
		signals:    make(chan Signal, 16),
		work:       make(chan struct{}, 1),
		restored:   make(chan struct{}, 1),
		subs:       make(map[string]*nats.Subscription),
		closing:    make(chan struct{}),
		published:  make(chan struct{}),
		stopping:   make(chan struct{}),
		dispatched: make(chan struct{}),
	}
	l.queue = owner.NewMailbox[*batch](func() { poke(l.work) })
	l.dials, l.cancel = context.WithCancel(context.Background())
	detach := context.AfterFunc(ctx, l.cancel) // only while connecting for the first time
	// A cut can be reported before connect returns, so the state after success is noted before.
	l.up.Store(true)
	l.emit(Connected)
	nc, err := l.connect(ctx)
	if err != nil {
		l.cancel()
		return nil, err
	}
	if !detach() {
		nc.Close()
		return nil, fmt.Errorf("connecting to NATS: %w", ctx.Err())
	}
	l.nc = nc
	subjects := []string{l.inbox + "*"}
	if number == 0 {
		subjects = append(subjects, "system.>", "conn.*.token")
	}
	for _, s := range subjects {
		if _, err := nc.ChanSubscribe(s, l.msgs); err != nil {
			l.cancel()
			nc.Close()
			return nil, fmt.Errorf("subscribing to %s on NATS: %w", s, err)
		}
	}
	if err := nc.FlushWithContext(ctx); err != nil && ctx.Err() != nil {
		l.cancel()
		nc.Close()
		return nil, fmt.Errorf("NATS at %s does not confirm subscriptions: %w", redact(o.URL), err)
	} else if err != nil {
		// Cut meanwhile: nats.go reconnects and subscribes again.
		o.Log.Warn("NATS connection lost at once", "error", err)
	}
	go l.dispatch()
	go l.publish()
	return l, nil
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// emit queues a signal for the dispatcher; called by nats.go's callbacks, which come one at a time.
func (l *link) emit(s Signal) {
	select {
	case l.signals <- s:
	case <-l.stopping:
	}
}

func (l *link) onDisconnect(_ *nats.Conn, err error) {
	l.up.Store(false)
	l.opts.Metrics.Disconnects.Inc()
	if err != nil {
		l.opts.Log.Warn("NATS connection lost", "connection", l.number, "error", err)
	}
	l.emit(Disconnected)
}

func (l *link) onReconnect(*nats.Conn) {
	l.up.Store(true)
	l.opts.Metrics.Reconnects.Inc()
	l.emit(Connected)
	l.emit(Gap)
	poke(l.restored)
}

func (l *link) onError(_ *nats.Conn, sub *nats.Subscription, err error) {
	if errors.Is(err, nats.ErrSlowConsumer) {
		l.opts.Metrics.SlowConsumer.Inc() // the dispatcher signals the Gap
		return
	}
	subject := ""
	if sub != nil {
		subject = sub.Subject
	}
	l.opts.Log.Error("NATS error", "connection", l.number, "subject", subject, "error", err)
}

func (l *link) close() {
	cut := time.AfterFunc(l.opts.closeGrace, func() {
		if s := l.socket.Load(); s != nil {
			s.Close()
		}
	})
	close(l.closing)
	<-l.published
	l.cancel()
	if l.up.Load() {
		// An error means that the server is gone: nothing more can be done for what was published.
		_ = l.nc.FlushTimeout(l.opts.closeGrace)
	}
	l.nc.Close()
	cut.Stop()
	close(l.stopping)
	<-l.dispatched
}

// strictConn closes itself when a write fails. nats.go forgets what it had buffered then (for a
// subscription it does not even report it) and would go on with the connection as if nothing were
// missing; closed, it reconnects and repeats its subscriptions.
type strictConn struct{ net.Conn }

func (c *strictConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil {
		c.Conn.Close()
	}
	return n, err
}
