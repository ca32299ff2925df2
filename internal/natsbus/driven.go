package natsbus

import (
	"context"
	"errors"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Network is NATS as a Driven bus sees it. Its methods are called on the goroutine that drives the
// bus.
type Network interface {
	// Publish takes a message on a connection. It reports false while the connection is lost. data
	// is valid during the call, the strings after it, too.
	Publish(conn int, subject, reply string, data []byte) bool
	// Subscribe and Unsubscribe take effect before later messages of the connection, and hold on
	// its next ones, as nats.go repeats them.
	Subscribe(conn int, subject string)
	Unsubscribe(conn int, subject string)
}

// Driven is a bus without NATS, goroutines and sockets. Its creator passes on what arrives, and has
// the links' publishers and dispatchers work when it likes, on one goroutine: so everything happens
// in the order that it chooses. It has what is beside that of a bus, but the making of connections.
type Driven struct {
	Bus   *Bus
	Links []*DrivenLink
}

// NewDriven returns a bus whose connections are up. The Receiver is not called before.
func NewDriven(o Options, n Network) *Driven {
	o = o.withDefaults()
	d := &Driven{Bus: &Bus{opts: o}}
	for i := range o.Conns {
		l := newLink(&d.Bus.opts, i, "driven"+strconv.Itoa(i), o.Clock)
		d.Bus.links = append(d.Bus.links, l)
		k := &DrivenLink{link: l, dispatcher: newDispatcher(l), publisher: newPublisher(l), subs: map[string]*nats.Subscription{}}
		l.nc.Store(drivenConn{l, n})
		k.next, k.end = iter.Pull(k.publish)
		d.Links = append(d.Links, k)
		_ = k.publisher.subscribeBase(l.nc.Load()) // a drivenConn does not fail
		l.onConnect(l.nc.Load())
		poke(l.back) // probes
	}
	return d
}

// Close ends the publishers wherever they wait. The bus must not be used any more.
func (d *Driven) Close() {
	d.Bus.closed.Store(true)
	for _, k := range d.Links {
		close(k.link.closing)
		k.end()
		k.link.cancel()
	}
}

// DrivenLink is a link of a Driven bus.
type DrivenLink struct {
	link       *link
	dispatcher *dispatcher
	publisher  *publisher
	subs       map[string]*nats.Subscription // of the messages so far, by subject

	next    func() (struct{}, bool) // has the publisher go on until it waits
	end     func()
	blocked bool // the publisher waits for a connection
	closed  bool
}

// publish is the publisher's loop, as a coroutine.
func (k *DrivenLink) publish(yield func(struct{}) bool) {
	p := k.publisher
	p.idle = func() {
		k.blocked = true
		for !k.closed && len(p.back) == 0 {
			k.closed = !yield(struct{}{})
		}
		k.blocked = false
	}
	for !k.closed {
		switch {
		case poked(p.back), poked(p.base.doubt):
			p.probe()
		case poked(p.work):
			p.sendQueued()
		}
		if !k.closed {
			k.closed = !yield(struct{}{})
		}
	}
}

// Publishing reports whether the publisher has something to do.
func (k *DrivenLink) Publishing() bool {
	l := k.link
	return len(l.back) > 0 || !k.blocked && (len(l.work) > 0 || len(l.base.doubt) > 0)
}

// Publish has the publisher work until it waits.
func (k *DrivenLink) Publish() { k.next() }

// Blocked reports whether the publisher waits for a connection with requests in hand.
func (k *DrivenLink) Blocked() bool { return k.blocked }

// Dispatching returns how many kinds of input the dispatcher has: messages, changes of the
// connection, the end of a probation.
func (k *DrivenLink) Dispatching() (kinds int) {
	for _, n := range [...]int{len(k.link.msgs), len(k.link.changes), len(k.dispatcher.lasted)} {
		if n > 0 {
			kinds++
		}
	}
	return kinds
}

// Dispatch has the dispatcher take input of one kind, by its index below Dispatching.
func (k *DrivenLink) Dispatch(kind int) {
	l, d := k.link, k.dispatcher
	if len(l.msgs) > 0 {
		if kind == 0 {
			d.takeAll(<-l.msgs)
			return
		}
		kind--
	}
	if len(l.changes) > 0 {
		if kind == 0 {
			d.change(<-l.changes)
			return
		}
		kind--
	}
	if kind == 0 && len(d.lasted) > 0 {
		<-d.lasted
		d.endTrial()
	}
}

// Room reports whether the link takes another change of its connection: Lost or Restored.
func (k *DrivenLink) Room() bool { return len(k.link.changes) < cap(k.link.changes) }

// Lost has the link learn that its connection is lost, as nats.go does. Publishing fails since.
func (k *DrivenLink) Lost() {
	k.link.onDisconnect(k.link.nc.Load(), errors.New("the connection is cut"))
}

// Restored has the link learn that its connection is back, with its subscriptions.
func (k *DrivenLink) Restored() { k.link.onReconnect(k.link.nc.Load()) }

// Deliver passes on a message that has arrived by a subscription. As nats.go does, it drops a
// message for which there is no room, and reports that.
func (k *DrivenLink) Deliver(subscription, subject string, data []byte) (dropped bool) {
	return k.deliver(&nats.Msg{Subject: subject, Data: data, Sub: k.subscription(subscription)})
}

// DeliverNoResponders passes on the server's reply to a request that no service subscribes to.
func (k *DrivenLink) DeliverNoResponders(subscription, subject string) (dropped bool) {
	return k.deliver(&nats.Msg{Subject: subject, Header: nats.Header{"Status": {"503"}}, Sub: k.subscription(subscription)})
}

// subscription returns what messages refer to as their subscription.
func (k *DrivenLink) subscription(subject string) *nats.Subscription {
	s := k.subs[subject]
	if s == nil {
		s = &nats.Subscription{Subject: subject}
		k.subs[subject] = s
	}
	return s
}

func (k *DrivenLink) deliver(m *nats.Msg) (dropped bool) {
	select {
	case k.link.msgs <- m:
		return false
	default:
		k.link.onError(m.Sub, nats.ErrSlowConsumer)
		return true
	}
}

// Queued returns how many operations wait for the publisher, and the bytes of their payloads.
func (k *DrivenLink) Queued() (operations, bytes int64) {
	return k.link.queued.Load(), k.link.queuedBytes.Load()
}

// drivenConn is the connection of a DrivenLink: that of one network for as long as the link lives.
type drivenConn struct {
	link    *link
	network Network
}

var errNoConnection = nats.ErrReconnectBufExceeded // of nats.go without a buffer

// Publish implements Conn. A mark is back when it is sent: nothing is denied that it would follow.
func (c drivenConn) Publish(subject string, data []byte) error {
	if strings.HasPrefix(subject, c.link.marks.prefix) {
		if !c.network.Publish(c.link.number, "", "", nil) {
			return errNoConnection
		}
		c.link.marks.returned(c.link.marks.prefix + "*")
		return nil
	}
	return c.PublishRequest(subject, "", data)
}

// PublishRequest implements Conn, as the other methods do.
func (c drivenConn) PublishRequest(subject, reply string, data []byte) error {
	if !c.network.Publish(c.link.number, subject, strings.Clone(reply), data) {
		return errNoConnection
	}
	return nil
}

// PublishMsg is not called: there are no headers.
func (c drivenConn) PublishMsg(m *nats.Msg) error {
	return c.PublishRequest(m.Subject, m.Reply, m.Data)
}

// ChanSubscribe subscribes. The messages come by DrivenLink.Deliver.
func (c drivenConn) ChanSubscribe(subject string, _ chan *nats.Msg) (*nats.Subscription, error) {
	if !strings.HasPrefix(subject, c.link.marks.prefix) {
		c.network.Subscribe(c.link.number, subject)
	}
	return &nats.Subscription{Subject: subject}, nil
}

// Unsubscribe ends a subscription.
func (c drivenConn) Unsubscribe(s *nats.Subscription) error {
	c.network.Unsubscribe(c.link.number, s.Subject)
	return nil
}

func (drivenConn) LastError() error                       { return nil }
func (c drivenConn) NumSubscriptions() int                { return 0 }
func (drivenConn) MaxPayload() int64                      { return 1 << 20 }
func (drivenConn) HeadersSupported() bool                 { return false }
func (drivenConn) ConnectedUrl() string                   { return "" }
func (drivenConn) Servers() []string                      { return nil }
func (c drivenConn) IsConnected() bool                    { return c.link.up.Load() }
func (drivenConn) IsClosed() bool                         { return false }
func (drivenConn) FlushTimeout(time.Duration) error       { return nil }
func (drivenConn) FlushWithContext(context.Context) error { return nil }
func (drivenConn) Close()                                 {}
