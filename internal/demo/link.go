package demo

import (
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// fence is the reply subject of the message that quiesce sends through the service. It never reaches NATS.
const fence = "_FENCE"

// flushTimeout is how long the NATS server may take to answer a ping while the demo stops.
const flushTimeout = time.Second

// link is the connection that go-res works on. It adds to a NATS connection that one can stop the incoming
// requests and then know that go-res has taken note of all those that came before.
type link struct {
	*nats.Conn

	mu     sync.Mutex // guards subs and in
	subs   []*nats.Subscription
	in     chan *nats.Msg // go-res's one queue of requests
	passed chan struct{}  // closed when the fence was answered
}

func newLink(nc *nats.Conn) *link { return &link{Conn: nc, passed: make(chan struct{})} }

// ChanQueueSubscribe subscribes as nats.Conn does, and remembers the subscription.
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

// Publish publishes as nats.Conn does, except that the answer to the fence ends here.
func (l *link) Publish(subject string, payload []byte) error {
	if subject == fence {
		close(l.passed)
		return nil
	}
	return l.Conn.Publish(subject, payload)
}

// quiesce ends all subscriptions and returns when go-res has handed every request to its workers. The server may
// have sent requests that have not been read yet: they come before its answer to a ping. And go-res hands requests over
// in order, so one of our own, sent last, is answered when all others have been handed over. It can be called once, while
// the service runs.
func (l *link) quiesce() {
	l.mu.Lock()
	defer l.mu.Unlock()
	// Errors mean that the connection is closed or cut, and then nothing comes in either.
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
