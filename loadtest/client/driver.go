//go:build linux

package client

import (
	"fmt"
	"strconv"
)

// Kind says what a latency was counted of.
type Kind uint8

// The kinds of latency.
const (
	Delivery    Kind = iota // an event, from when it was due to when a client had it
	Connect                 // a connection, from when it was due until all its subscriptions were confirmed
	Call                    // a call
	Subscribe               // a subscription made while the run lasts
	Unsubscribe             // its end
	Get                     // an HTTP request
	Kinds                   // how many there are
)

var kindNames = [Kinds]string{"delivery", "connect", "call", "subscribe", "unsubscribe", "get"}

func (k Kind) String() string { return kindNames[k] }

// Driver speaks a protocol: it writes what a client sends and reads what it
// gets. It holds no state of a connection, so one serves all.
type Driver interface {
	// Path is the target of the WebSocket upgrade, subprotocol its
	// Sec-WebSocket-Protocol or "".
	Path() (path, subprotocol string)
	// Open sends what makes the connection ready: the hello and a subscription
	// to each topic. c.pending is how many confirmations must come before it is.
	Open(c *Conn, topics []int)
	// Message reads one message; payload is valid until it returns.
	Message(c *Conn, payload []byte)
	// Request sends a request of the given kind whose answer repeats id, and
	// reports whether the protocol has such requests.
	Request(c *Conn, kind Kind, topic int, id uint64) bool
}

// Protocols that NewDriver knows.
const (
	ProtocolRES        = "res"
	ProtocolCentrifuge = "centrifuge"
	ProtocolNATS       = "nats"
	ProtocolFloor      = "floor"
)

// NewDriver returns the driver of a protocol. path replaces the protocol's
// usual upgrade path if it is not empty.
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
	case ProtocolFloor:
		return floorDriver{path: or("/")}, nil
	}
	return nil, fmt.Errorf("unknown protocol %q: use res, centrifuge, nats or floor", protocol)
}

// Topic is the name of the i-th topic: a resource, a channel or a subject.
func Topic(i int) string { return "load.t" + strconv.Itoa(i) }

// Model is the name of the i-th resource that a churning client subscribes to.
func Model(i int) string { return "load.m" + strconv.Itoa(i) }

// A request's id holds its kind and when it was due, in microseconds since the
// phase began, so that no table of open requests is needed. It fits in 32 bits
// for phases of up to eight minutes.
const (
	idKindBits = 3
	idReserved = 1 << idKindBits // ids below are not of such requests
)

func (t *Thread) requestID(kind Kind, due int64) uint64 {
	us := max(uint64(max(due-t.phase, 0))/1000, 1)
	return us<<idKindBits | uint64(kind)
}

func (t *Thread) requestOf(id uint64) (kind Kind, due int64) {
	return Kind(id & (idReserved - 1)), t.phase + int64(id>>idKindBits)*1000
}
