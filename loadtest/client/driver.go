//go:build linux

package client

import (
	"fmt"
	"strconv"
)

// Kind is what a latency was measured of.
type Kind uint8

// The kinds of latency.
const (
	Delivery    Kind = iota // an event, until a client has read it
	Connect                 // a connection, until all its subscriptions are confirmed
	Call                    // a call
	Subscribe               // a subscription during the run
	Unsubscribe             // the end of one
	Get                     // an HTTP request
	Open                    // a page: a resource with all that it refers to
	Leave                   // the end of a page
	Pause                   // the longest that a client waited for an event that was due; never a request's
	Kinds                   // the number of kinds
)

var kindNames = [Kinds]string{"delivery", "connect", "call", "subscribe", "unsubscribe", "get", "open", "leave", "pause"}

func (k Kind) String() string { return kindNames[k] }

// Driver is a client's side of a protocol: it writes what a client sends and reads what it
// receives. It holds no state of a connection, so one serves all.
type Driver interface {
	// Path returns the target of the WebSocket upgrade, and its Sec-WebSocket-Protocol or "".
	Path() (path, subprotocol string)
	// Open sends the hello and a subscription to each topic. It sets c.pending to the number
	// of confirmations that make the connection ready.
	Open(c *Conn, topics []int)
	// Message reads one message. payload is valid until Message returns.
	Message(c *Conn, payload []byte)
	// Request sends a request of the given kind whose response repeats id. It reports
	// whether the protocol has such requests.
	Request(c *Conn, kind Kind, topic int, id uint64) bool
}

// subscriber is a Driver whose clients wait for confirmations before they ask for more.
type subscriber interface {
	// More sends further subscriptions. Each has a confirmation.
	More(c *Conn, topics []int)
}

// openWindow is how many subscriptions of a client are in flight while it opens.
const openWindow = 100

// Protocols that NewDriver knows.
const (
	ProtocolRES        = "res"
	ProtocolCentrifuge = "centrifuge"
	ProtocolNATS       = "nats"
	ProtocolSocketIO   = "socketio"
	ProtocolMercure    = "mercure"
	ProtocolFloor      = "floor"
)

// NewDriver returns the driver of a protocol. A path that is not empty replaces the
// protocol's default path of upgrades.
func NewDriver(protocol, path string) (Driver, error) {
	or := func(usual string) string {
		if path != "" {
			return path
		}
		return usual
	}
	switch protocol {
	case ProtocolRES:
		return resDriver{path: or("/")}, nil
	case ProtocolCentrifuge:
		return centrifugeDriver{path: or("/connection/websocket")}, nil
	case ProtocolNATS:
		return natsDriver{path: or("/")}, nil
	case ProtocolSocketIO:
		return socketioDriver{path: or("/socket.io/?EIO=4&transport=websocket")}, nil
	case ProtocolMercure:
		return mercureDriver{path: or("/.well-known/mercure")}, nil
	case ProtocolFloor:
		return floorDriver{path: or("/")}, nil
	}
	return nil, fmt.Errorf("unknown protocol %q: use res, centrifuge, nats, socketio, mercure or floor", protocol)
}

// Topic returns the name of the i-th topic: a resource, a channel or a subject.
func Topic(i int) string { return "load.t" + strconv.Itoa(i) }

// A request's id encodes its kind and its due time in microseconds since the phase began.
// So the response alone gives the latency, without a table of requests in flight. The id
// fits in 32 bits for phases of up to eight minutes.
const (
	idKindBits = 3
	idReserved = 1 << idKindBits // lower ids are of hellos and first subscriptions
)

// requestID returns the id of a request.
func (t *Thread) requestID(kind Kind, due int64) uint64 {
	us := max(uint64(max(due-t.phase, 0))/1000, 1)
	return us<<idKindBits | uint64(kind)
}

// requestOf returns what an id encodes.
func (t *Thread) requestOf(id uint64) (kind Kind, due int64) {
	return Kind(id & (idReserved - 1)), t.phase + int64(id>>idKindBits)*1000
}
