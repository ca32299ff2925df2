package demo

import (
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// fence is the reply subject of the message that quiesce sends through the service. It never
// reaches NATS.
const fence = "_FENCE"

// flushTimeout bounds the wait for the NATS server's pong while the demo stops.
const flushTimeout = time.Second

// link is the connection that go-res uses. It adds a way to stop incoming requests and to know that
// go-res has accepted all earlier ones.
type link struct {
	*nats.Conn

	mu     sync.Mutex // guards subs and in
	subs   []*nats.Subscription
	in     chan *nats.Msg // go-res's single queue of requests
	passed chan struct{}  // closed when the fence has been answered
}

func newLink(nc *nats.Conn) *link { return &link{Conn: nc, passed: make(chan struct{})} }

// ChanQueueSubscribe subscribes like nats.Conn and records the subscription.
func (l *link) ChanQueueSubscribe(subject, queue string, in chan *nats.Msg) (*nats.Subscription, error) {
	sub, err := l.Conn.ChanQueueSubscribe(subject, queue, in)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.subs = append(l.subs, sub)
	l.in = in
	return sub, nil
}

// Publish publishes like nats.Conn, but intercepts the reply to the fence.
func (l *link) Publish(subject string, payload []byte) error {
	if subject == fence {
		close(l.passed)
		return nil
	}
	return l.Conn.Publish(subject, payload)
}

// quiesce ends all subscriptions and returns when go-res has dispatched every request to its
// workers. Requests that the server has already sent arrive before its pong. go-res dispatches in
// order, so the reply to a last request of our own, the fence, proves that all others were
// dispatched. It can be called once, while the service runs.
func (l *link) quiesce() {
	l.mu.Lock()
	defer l.mu.Unlock()
	// Errors mean that the connection is closed or lost, so nothing arrives either.
	for _, sub := range l.subs {
		_ = sub.Drain()
	}
	if l.IsConnected() {
		_ = l.FlushTimeout(flushTimeout)
	}
	for _, sub := range l.subs {
		_ = sub.Unsubscribe()
	}
	if l.in != nil {
		l.in <- &nats.Msg{Subject: "get." + serviceName + ".fence", Reply: fence}
		<-l.passed
	}
}
