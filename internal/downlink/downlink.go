// Package downlink owns a connection to NATS in the role that services have: it takes requests, and
// publishes replies and events, all in order on one connection. It may be fenced, so that nothing
// leaves once the right to send is gone.
//
// It never reads a payload, and knows nothing of resources. Requests to services, with their
// replies, are those of package natsbus.
package downlink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/internal/loglimit"
	"sluice/internal/metrics"
	"sluice/internal/natsbus"
	"sluice/internal/owner"
	"sluice/internal/secret"
	"sluice/internal/tracing"
)

// Message is a message that was received. Data is immutable and may be kept.
type Message struct {
	Subject string
	Reply   string // where a reply is expected; empty: none is
	Data    []byte
	Trace   *tracing.Context // of its header; nil: none
}

// traceOf returns the trace in a message's header; nil if there is none.
func traceOf(m *nats.Msg) *tracing.Context {
	if m.Header == nil {
		return nil
	}
	c := tracing.Parse(m.Header.Get(tracing.ParentField), m.Header.Get(tracing.StateField))
	if !c.Valid() {
		return nil
	}
	return &c
}

// Handler gets what arrives. Take is called by one goroutine in the order of arrival, and may
// block: then messages queue up, and beyond Options.Pending they are dropped and counted. Lost and
// Restored are called by another goroutine, and must not block.
type Handler interface {
	Take(m Message)
	// Lost reports that the connection is lost. What is sent until Restored is dropped.
	Lost()
	// Restored reports that the connection is back with its subscriptions.
	Restored()
	// Failed reports that the connection cannot be used any more: the server denies a
	// subscription, or has closed the connection for good.
	Failed(err error)
}

// Options of a Link. Zero values mean the default in parentheses.
type Options struct {
	URL       secret.URLs // required
	Name      string      // shown by the NATS server
	Creds     string      // user credentials file
	Nkey      string      // file of a user's nkey seed
	Cert, Key string      // client certificate and key files, both or none
	RootCAs   []string    // CA files the server's certificate is checked against

	Handler Handler // required
	// Allowed is asked before each write to the socket. Once it reports false, the connection is
	// closed and no other is made. Any goroutine may call it. (always allowed)
	Allowed func() bool

	ConnectTimeout time.Duration // all attempts of Connect together (30 s)
	WriteTimeout   time.Duration // a write that takes longer cuts the connection (10 s)
	Ping           time.Duration // interval of pings; two without a pong end the connection (10 s)
	Pending        int           // messages received and not yet taken (65,536)
	Log            *slog.Logger  // required
	Metrics        *Metrics      // required
}

// Metrics count what links do. Any goroutine may read them.
type Metrics struct {
	Received    metrics.Counter // messages received
	Overflowed  metrics.Counter // times that messages were dropped because too many had been received
	Sent        metrics.Counter // messages published
	SentBytes   metrics.Counter // their payloads
	Dropped     metrics.Counter // messages not published: the connection was lost, or they were too large
	Queue       metrics.Gauge   // messages queued for publishing
	QueueBytes  metrics.Gauge   // their payloads
	Disconnects metrics.Counter // connections lost
}

// Link is a connection. Any goroutine may call its methods.
type Link struct {
	o     Options
	nc    *nats.Conn
	msgs  chan *nats.Msg
	queue *owner.Mailbox[packet]
	bytes atomic.Int64 // payloads in queue
	work  chan struct{}

	subs    atomic.Pointer[[]*nats.Subscription] // of Listen
	dialled atomic.Pointer[fenced]               // the newest connection to a server
	up      atomic.Bool
	closed  atomic.Bool
	limits  loglimit.Limiter

	closing   chan struct{}
	published chan struct{}
	taken     chan struct{}
}

// packet is a message to be published.
type packet struct {
	subject      string
	data         []byte
	noResponders bool
	group        string
	listen       bool
}

// tryTimeout bounds one attempt to connect.
const tryTimeout = 5 * time.Second

var errFenced = errors.New("downlink: the right to send is gone")

// Connect connects. While NATS is unreachable it retries until ConnectTimeout has passed or ctx
// ends. The error names the address, without credentials, and says what to do.
func Connect(ctx context.Context, o Options) (*Link, error) {
	for d, v := range map[*time.Duration]time.Duration{&o.ConnectTimeout: 30 * time.Second, &o.WriteTimeout: 10 * time.Second, &o.Ping: 10 * time.Second} {
		if *d == 0 {
			*d = v
		}
	}
	if o.Pending == 0 {
		o.Pending = 1 << 16
	}
	l := &Link{
		o: o, msgs: make(chan *nats.Msg, o.Pending), work: make(chan struct{}, 1),
		closing: make(chan struct{}), published: make(chan struct{}), taken: make(chan struct{}),
	}
	l.queue = owner.NewMailbox[packet](func() { poke(l.work) })
	if err := l.connect(ctx); err != nil {
		return nil, err
	}
	l.up.Store(true)
	go l.publish()
	go l.take()
	return l, nil
}

func (l *Link) connect(ctx context.Context) error {
	credentials, err := natsbus.Credentials(l.o.Creds, l.o.Nkey, l.o.Cert, l.o.Key, l.o.RootCAs)
	if err != nil {
		return fmt.Errorf("connecting to NATS downstream: %w", err)
	}
	settings := nats.GetDefaultOptions()
	settings.Servers = l.o.URL.List()
	for _, apply := range append([]nats.Option{
		nats.Name(l.o.Name),
		nats.Timeout(tryTimeout),
		nats.SetCustomDialer(l),
		nats.FlusherTimeout(l.o.WriteTimeout),
		nats.ReconnectOnFlusherError(),
		nats.PingInterval(l.o.Ping),
		nats.MaxPingsOutstanding(2),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(),
		nats.ReconnectWait(100 * time.Millisecond),
		nats.ReconnectBufSize(-1), // what cannot be sent is dropped: edges fetch everything again
		nats.NoCallbacksAfterClientClose(),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { l.lost(err) }),
		nats.ReconnectHandler(func(*nats.Conn) { l.restored() }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { l.failed(err) }),
		nats.ClosedHandler(func(nc *nats.Conn) {
			l.o.Handler.Failed(fmt.Errorf("the connection to NATS at %s is closed: %w", l.o.URL, l.o.URL.Error(nc.LastError())))
		}),
	}, credentials...) {
		if err := apply(&settings); err != nil {
			return fmt.Errorf("connecting to NATS downstream: %w", l.o.URL.Error(err))
		}
	}
	ctx, cancel := context.WithTimeout(ctx, l.o.ConnectTimeout)
	defer cancel()
	for {
		if l.nc, err = settings.Connect(); err == nil {
			return nil
		}
		l.o.Log.Warn("NATS downstream is not reachable, retrying", "url", l.o.URL, "error", l.o.URL.Error(err))
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return fmt.Errorf("cannot reach NATS downstream at %s: %w; start a NATS server there, or set the address and credentials of a running one",
				l.o.URL, l.o.URL.Error(err))
		}
	}
}

// Dial implements nats.CustomDialer.
func (l *Link) Dial(network, address string) (net.Conn, error) {
	if !l.allowed() {
		return nil, errFenced
	}
	c, err := net.DialTimeout(network, address, tryTimeout)
	if err != nil {
		return nil, err
	}
	f := &fenced{c, l}
	if old := l.dialled.Swap(f); old != nil {
		_ = old.Close() // nats.go forgets one whose server has accepted it and does not reply
	}
	return f, nil
}

func (l *Link) allowed() bool { return l.o.Allowed == nil || l.o.Allowed() }

// fenced closes itself when the right to send is gone, or when a write fails: nats.go forgets what
// it had buffered then, and would go on as if nothing were missing.
type fenced struct {
	net.Conn
	l *Link
}

func (c *fenced) Write(p []byte) (int, error) {
	if !c.l.allowed() {
		_ = c.Conn.Close()
		return 0, errFenced
	}
	n, err := c.Conn.Write(p)
	if err != nil {
		_ = c.Conn.Close()
	}
	return n, err
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (l *Link) lost(err error) {
	l.up.Store(false)
	l.o.Metrics.Disconnects.Inc()
	l.o.Log.Warn("NATS downstream disconnected", "url", l.o.URL, "error", l.o.URL.Error(err))
	l.o.Handler.Lost()
}

func (l *Link) restored() {
	l.up.Store(true)
	l.o.Log.Info("NATS downstream connected", "url", l.o.URL)
	l.o.Handler.Restored()
}

func (l *Link) failed(err error) {
	switch {
	case errors.Is(err, nats.ErrSlowConsumer):
		l.o.Metrics.Overflowed.Inc()
		l.warn("too many requests have arrived; some are dropped", err)
	case errors.Is(err, nats.ErrPermissionViolation), errors.Is(err, nats.ErrMaxSubscriptionsExceeded):
		l.o.Handler.Failed(fmt.Errorf("NATS downstream at %s: %w; permit it in the server's configuration", l.o.URL, l.o.URL.Error(err)))
	default:
		l.warn("NATS downstream reports an error", err)
	}
}

// warnEvery is how often errors that peers can cause are logged.
const warnEvery = time.Second

var systemClock = owner.SystemClock()

func (l *Link) warn(msg string, err error) {
	l.limits.Log(l.o.Log, slog.LevelWarn, systemClock.Now(), warnEvery, msg, "error", l.o.URL.Error(err))
}

// Listen subscribes to subjects. With a queue group, each message goes to one member of the group.
// It returns when the server has the subscriptions. One goroutine at a time may call it.
func (l *Link) Listen(group string, subjects ...string) error {
	all := slices.Clone(l.subscribed())
	for _, s := range subjects {
		sub, err := l.nc.ChanQueueSubscribe(s, group, l.msgs)
		if err != nil {
			return fmt.Errorf("subscribing to %s on NATS downstream: %w", s, err)
		}
		all = append(all, sub)
	}
	l.subs.Store(&all)
	if err := l.nc.FlushTimeout(tryTimeout); err != nil {
		return fmt.Errorf("NATS downstream does not confirm subscriptions: %w", l.o.URL.Error(err))
	}
	return nil
}

// Deaf ends all subscriptions of Listen, so that no further message arrives. What is queued can
// still be sent.
func (l *Link) Deaf() {
	for _, s := range l.subscribed() {
		_ = s.Unsubscribe() // fails only if the connection is closed
	}
	_ = l.nc.FlushTimeout(tryTimeout)
}

func (l *Link) subscribed() []*nats.Subscription {
	if all := l.subs.Load(); all != nil {
		return *all
	}
	return nil
}

// Send publishes a message, in the order of the calls. It never blocks; data must not change any
// more. While the connection is lost the message is dropped.
func (l *Link) Send(subject string, data []byte) { l.send(packet{subject: subject, data: data}) }

// ListenLater subscribes to a subject before what is sent later.
func (l *Link) ListenLater(group, subject string) {
	l.send(packet{subject: subject, group: group, listen: true})
}

// NoResponders replies to a request as the server does if no service subscribes to its subject.
func (l *Link) NoResponders(reply string) { l.send(packet{subject: reply, noResponders: true}) }

func (l *Link) send(p packet) {
	if !l.up.Load() || l.closed.Load() {
		l.o.Metrics.Dropped.Inc()
		return
	}
	l.bytes.Add(int64(len(p.data)))
	l.o.Metrics.Queue.Inc()
	l.o.Metrics.QueueBytes.Add(int64(len(p.data)))
	l.queue.Put(p)
}

// Queued returns how many messages wait to be published, and the bytes of their payloads.
func (l *Link) Queued() (messages, bytes int) { return l.queue.Len(), int(l.bytes.Load()) }

// Up reports whether the connection is up.
func (l *Link) Up() bool { return l.up.Load() }

// publish is the publisher's goroutine: the only one that calls nats.go to publish, which may block
// on a full socket.
func (l *Link) publish() {
	defer close(l.published)
	for {
		select {
		case <-l.work:
			l.queue.Drain(0, l.write)
		case <-l.closing:
			l.queue.Drain(0, l.write)
			return
		}
	}
}

func (l *Link) write(p packet) {
	m := l.o.Metrics
	l.bytes.Add(-int64(len(p.data)))
	m.Queue.Dec()
	m.QueueBytes.Add(-int64(len(p.data)))
	var err error
	switch {
	case p.listen:
		_, err = l.nc.ChanQueueSubscribe(p.subject, p.group, l.msgs)
	case p.noResponders:
		err = l.nc.PublishMsg(&nats.Msg{Subject: p.subject, Header: nats.Header{"Status": {"503"}}})
	default:
		err = l.nc.Publish(p.subject, p.data)
	}
	if err != nil {
		m.Dropped.Inc()
		if !errors.Is(err, nats.ErrReconnectBufExceeded) && !errors.Is(err, nats.ErrConnectionClosed) {
			l.warn("a message cannot be sent downstream", fmt.Errorf("%d bytes: %w", len(p.data), err))
		}
		return
	}
	m.Sent.Inc()
	m.SentBytes.Add(uint64(len(p.data)))
}

// MaxPayload returns the largest payload that the server accepts.
func (l *Link) MaxPayload() int { return int(l.nc.MaxPayload()) }

// take passes on what arrives.
func (l *Link) take() {
	defer close(l.taken)
	for {
		select {
		case m := <-l.msgs:
			l.o.Metrics.Received.Inc()
			l.o.Handler.Take(Message{Subject: m.Subject, Reply: m.Reply, Data: m.Data, Trace: traceOf(m)})
		case <-l.closing:
			return
		}
	}
}

// closeTimeout is how long Close waits for a server that does not read.
const closeTimeout = 2 * time.Second

// Close publishes what is queued, if NATS accepts it, and closes the connection. When it returns,
// no call of the Handler runs or will start. It must be called once.
func (l *Link) Close() {
	l.closed.Store(true)
	close(l.closing)
	<-l.taken
	// A publisher that is stuck in a write is freed when the connection closes.
	freed := time.AfterFunc(closeTimeout, l.nc.Close)
	<-l.published
	if l.up.Load() && l.allowed() {
		_ = l.nc.FlushTimeout(closeTimeout) // an error means that the server is gone
	}
	freed.Stop()
	l.nc.Close()
}
