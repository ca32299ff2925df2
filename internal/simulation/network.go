package simulation

import (
	"slices"
	"strings"

	"sluice/internal/natsbus"
)

// network is NATS: a server, with a connection to each of the gateway's links and each service. It
// is the natsbus.Network of the gateway's bus. A message takes one hop to the server and one from
// it, each a step of its own, so messages of different publishers overtake each other.
type network struct {
	w     *world
	links []*natsLink
}

// natsLink is a connection of the gateway, with what is on its way.
type natsLink struct {
	driven *natsbus.DrivenLink
	up     bool
	wants  []string          // what the client subscribes to, repeated by each connection
	subs   map[string]string // the server's, each by itself
	out    []toServer
	in     []fromServer
	// What nats.go has yet to call: it reports a loss and a return on a goroutine of its own.
	callbacks []func()
}

// toServer is a message, or a subscription to begin or end.
type toServer struct {
	subscribe, unsubscribe string
	subject, reply         string
	data                   []byte
}

type fromServer struct {
	subscription, subject string
	data                  []byte
	none                  bool // no service subscribes to the request
}

func newNetwork(w *world, conns int) *network {
	n := &network{w: w}
	for range conns {
		n.links = append(n.links, &natsLink{up: true, subs: map[string]string{}})
	}
	return n
}

// Publish implements natsbus.Network, as Subscribe and Unsubscribe do.
func (n *network) Publish(conn int, subject, reply string, data []byte) bool {
	l := n.links[conn]
	if l.up && subject != "" {
		l.out = append(l.out, toServer{subject: subject, reply: reply, data: slices.Clone(data)})
	}
	return l.up
}

// Subscribe subscribes to a subject.
func (n *network) Subscribe(conn int, subject string) {
	l := n.links[conn]
	l.wants = append(l.wants, subject)
	if l.up {
		l.out = append(l.out, toServer{subscribe: subject})
	}
}

// Unsubscribe ends Subscribe.
func (n *network) Unsubscribe(conn int, subject string) {
	l := n.links[conn]
	if i := slices.Index(l.wants, subject); i >= 0 {
		l.wants = slices.Delete(l.wants, i, i+1)
	}
	if l.up {
		l.out = append(l.out, toServer{unsubscribe: subject})
	}
}

// arrive has the server take the oldest message of a link.
func (n *network) arrive(l *natsLink) {
	m := l.out[0]
	l.out = l.out[1:]
	switch {
	case m.subscribe != "":
		n.w.note("NATS: subscribed ", m.subscribe)
		l.subs[m.subscribe] = m.subscribe
	case m.unsubscribe != "":
		n.w.note("NATS: unsubscribed ", m.unsubscribe)
		delete(l.subs, m.unsubscribe)
	default:
		n.w.requested(l, m)
	}
}

// route has the server pass on a message of a service.
func (n *network) route(subject string, data []byte) {
	var space [128]byte
	pattern := space[:0]
	switch {
	case strings.HasPrefix(subject, "system."):
		pattern = append(pattern, "system.>"...)
	case strings.HasPrefix(subject, "conn."):
		pattern = append(pattern, "conn.*.token"...)
	default:
		pattern = append(append(pattern, subject[:strings.LastIndexByte(subject, '.')]...), ".*"...)
	}
	for _, l := range n.links {
		if pattern, ok := l.subs[string(pattern)]; ok {
			l.in = append(l.in, fromServer{subscription: pattern, subject: subject, data: data})
		}
	}
}

// receive has the gateway receive the oldest message for a link.
func (n *network) receive(l *natsLink) {
	m := l.in[0]
	l.in = l.in[1:]
	if m.none {
		l.driven.DeliverNoResponders(m.subscription, m.subject)
	} else if l.driven.Deliver(m.subscription, m.subject, m.data) {
		n.w.logf("NATS: dropped %s", m.subject)
		n.w.lossy = true
	}
}

// cut ends a connection, and with it all that is on its way.
func (n *network) cut(l *natsLink) {
	n.w.lossy = true
	l.up, l.out, l.in = false, nil, nil
	clear(l.subs)
	l.callbacks = append(l.callbacks, l.driven.Lost)
}

// restore makes the next connection.
func (n *network) restore(l *natsLink) {
	l.up = true
	for _, s := range l.wants {
		l.subs[s] = s
	}
	l.callbacks = append(l.callbacks, l.driven.Restored)
}

// call makes the next callback of nats.go.
func (n *network) call(l *natsLink) {
	f := l.callbacks[0]
	l.callbacks = l.callbacks[1:]
	f()
}
