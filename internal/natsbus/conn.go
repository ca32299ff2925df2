package natsbus

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// Conn is a connection to NATS as a link uses it: one of nats.go, or that of a Driven bus. The
// methods are those of nats.Conn, but for Unsubscribe.
type Conn interface {
	Publish(subject string, data []byte) error
	// PublishRequest keeps neither reply nor data, which are valid during the call.
	PublishRequest(subject, reply string, data []byte) error
	PublishMsg(m *nats.Msg) error
	ChanSubscribe(subject string, c chan *nats.Msg) (*nats.Subscription, error)
	Unsubscribe(s *nats.Subscription) error // ends s, which ChanSubscribe has returned

	LastError() error
	NumSubscriptions() int
	MaxPayload() int64
	HeadersSupported() bool
	ConnectedUrl() string
	Servers() []string
	IsConnected() bool
	IsClosed() bool

	FlushTimeout(d time.Duration) error
	FlushWithContext(ctx context.Context) error
	Close()
}

// natsConn is a connection of nats.go.
type natsConn struct{ *nats.Conn }

// Unsubscribe implements Conn.
func (natsConn) Unsubscribe(s *nats.Subscription) error { return s.Unsubscribe() }

// newest holds the newest connection of a link. Any goroutine may load it.
type newest struct{ conn atomic.Pointer[Conn] }

// Load returns the connection; nil before the first Store.
func (n *newest) Load() Conn {
	if c := n.conn.Load(); c != nil {
		return *c
	}
	return nil
}

// Store replaces the connection.
func (n *newest) Store(c Conn) { n.conn.Store(&c) }
