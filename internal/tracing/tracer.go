package tracing

import (
	"context"
	"encoding/binary"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"sluice/internal/metrics"
	"sluice/internal/owner"
	"sluice/internal/secret"
)

const (
	// maxQueue bounds the spans that wait to be sent, those of the request in flight included.
	maxQueue = 8192
	// maxBatch is the number of spans that are sent in one request, at most.
	maxBatch = 512
	// exportDelay is how long a span waits for others, unless maxBatch wait.
	exportDelay = time.Second
	// exportTime bounds one request to the collector.
	exportTime = 10 * time.Second
	// exportTries bounds how often a batch is sent that the collector does not take.
	exportTries = 5
	// retryFirst and retryMost bound the back-off between them.
	retryFirst = time.Second
	retryMost  = 30 * time.Second
	// stopTime bounds how long Stop sends what is left.
	stopTime = 5 * time.Second
	// logEvery is how often failures are logged.
	logEvery = time.Minute
)

// Options are the settings of a Tracer.
type Options struct {
	Endpoint   string      // URL that spans are posted to, with its path; empty: off
	Headers    secret.Key  // header fields of the requests: name=value,name=value
	Ratio      float64     // part of the traces that are recorded, of those that begin here
	Service    string      // service.name
	Attributes [][2]string // of the resource, beside those that the gateway knows
	Version    string      // service.version
	Instance   string      // service.instance.id
}

// Env is what a Tracer needs of the gateway. All are required.
type Env struct {
	Clock   owner.Clock      // of the owners
	Wall    func() time.Time // spans have dates
	Metrics *Metrics
	Faults  *owner.Faults
	Log     *slog.Logger
}

// Metrics counts spans. Any goroutine may read it.
type Metrics struct {
	Exported metrics.Counter // taken by the collector
	Dropped  metrics.Counter // not sent: too many waited
	Failed   metrics.Counter // sent, and not taken
	Queued   metrics.Gauge   // wait to be sent
}

// Tracer collects the spans of all owners, and sends them. A nil Tracer is off.
type Tracer struct {
	// Fixed after New.
	o       Options
	env     Env
	client  *http.Client
	header  http.Header
	bound   uint64 // of sampled trace IDs
	queue   *owner.Mailbox[*Span]
	arrived chan struct{} // the exporter has something to do
	stop    chan struct{}
	stopped context.Context // ends when Stop has waited long enough
	cut     context.CancelFunc
	all     sync.WaitGroup

	// Shared by the owners.
	waiting atomic.Int64 // spans in the queue, or being sent

	// Owned by the exporter.
	batch  []*Span
	failed bool // the latest request
	shown  time.Duration
}

// New returns a Tracer for valid settings; nil if they have no endpoint.
func New(o Options, env Env) *Tracer {
	if o.Endpoint == "" {
		return nil
	}
	t := &Tracer{o: o, env: env, arrived: make(chan struct{}, 1), stop: make(chan struct{})}
	t.stopped, t.cut = context.WithCancel(context.Background())
	t.client = newClient()
	t.header = make(http.Header)
	pairs, _ := Pairs(o.Headers.Reveal()) // checked
	for _, p := range pairs {
		t.header.Add(p[0], p[1])
	}
	t.bound = uint64(min(max(o.Ratio, 0), 1) * (1 << 63))
	// The first span of a batch starts the delay; a full batch, and Stop, end it.
	alarm := env.Clock.AfterFunc(exportDelay, t.wake)
	alarm.Stop()
	t.queue = owner.NewMailbox[*Span](func() { alarm.Reset(exportDelay) })
	return t
}

// samples reports whether a trace that begins here is recorded: by its ID, as others decide who use
// the same ratio.
func (t *Tracer) samples(id [16]byte) bool {
	return binary.BigEndian.Uint64(id[8:])>>1 < t.bound
}

// offer queues a span that has ended. Any goroutine may call it.
func (t *Tracer) offer(s *Span) {
	n := t.waiting.Add(1)
	if n > maxQueue {
		t.waiting.Add(-1)
		t.env.Metrics.Dropped.Inc()
		return
	}
	t.env.Metrics.Queued.Inc()
	t.queue.Put(s)
	if n%maxBatch == 0 {
		t.wake()
	}
}

// wake has the exporter send what is queued.
func (t *Tracer) wake() {
	select {
	case t.arrived <- struct{}{}:
	default:
	}
}

// Start starts the exporter. Start and Stop have the form of lifecycle.Part.
func (t *Tracer) Start(context.Context, func(error)) error {
	t.all.Go(t.run)
	return nil
}

// Stop sends what is left, within 5 s and until ctx ends, and ends the exporter.
func (t *Tracer) Stop(ctx context.Context) error {
	ctx, cancel := owner.Within(ctx, t.env.Clock, stopTime)
	defer cancel()
	defer context.AfterFunc(ctx, t.cut)()
	close(t.stop)
	t.all.Wait()
	t.cut()
	t.client.CloseIdleConnections()
	return nil
}

// run is the exporter's goroutine.
func (t *Tracer) run() {
	for {
		select {
		case <-t.arrived:
			t.contained()
		case <-t.stop:
			t.contained()
			return
		}
	}
}

// contained sends what is queued. A panic loses the batch.
func (t *Tracer) contained() {
	defer t.env.Faults.Contain(owner.Exporter)
	defer func() { t.done(&t.env.Metrics.Failed) }() // after a panic
	t.queue.Drain(0, func(s *Span) {
		t.batch = append(t.batch, s)
		if len(t.batch) >= maxBatch {
			t.send()
		}
	})
	if len(t.batch) > 0 {
		t.send()
	}
}

// send sends the batch.
func (t *Tracer) send() {
	as := &t.env.Metrics.Failed
	if t.export() {
		as = &t.env.Metrics.Exported
	}
	t.done(as)
}

// done counts the batch as what has become of it.
func (t *Tracer) done(as *metrics.Counter) {
	n := len(t.batch)
	as.Add(uint64(n))
	t.env.Metrics.Queued.Add(-int64(n))
	t.waiting.Add(-int64(n))
	clear(t.batch)
	t.batch = t.batch[:0]
}
