package netpoll

import "sluice/internal/invariants"

// state is the state of a connection. The order matters: comparisons test how far a connection has
// got. ARCHITECTURE.md shows the states and what moves a connection between them as a table.
type state uint8

const (
	// stateProxy: a trusted proxy's header may precede everything else. Ends when the header is
	// complete, or when the first bytes are not one: stateTLS or stateHead.
	stateProxy state = iota
	// stateTLS: the TLS handshake is in progress or has yet to begin; tlsLink.hs is the worker's
	// part of it. Ends when the handshake is done: stateHead.
	stateTLS
	// stateHead: the next request's head is incomplete, or its body (flagBody); inbox.in has what
	// was received of it. With flagIdle a response has been written, and no byte of the next
	// request received. A new connection begins here.
	stateHead
	// stateRefuse: the connection is over a limit and holds one of the reserved descriptors. Ends
	// with the first bytes of its request, which is answered with 503: stateFail.
	stateRefuse
	// statePending: the Handler has not decided on the upgrade; its head is the beginning of
	// inbox.in. Ends with Conn.Accept (stateOpen), Conn.Refuse or the timer (stateFail).
	statePending
	// stateRequest: the Handler owes the response to a plain request. Input is buffered. Ends with
	// Conn.Respond.
	stateRequest
	// stateAnswered: that response is in the outbox; the next request waits. Ends when the outbox
	// is empty: stateHead, or stateFail if the response was the last one (flagLast).
	stateAnswered
	// stateOpen: a WebSocket, or with flagStream a stream. Ends with a close frame from either
	// side, a protocol error, or the end of the stream or of the client's input.
	stateOpen
	// stateClosing: our close frame is queued or sent, the peer's has not been received. Messages
	// are discarded. Ends with the peer's close frame (stateFinish) or the timer.
	stateClosing
	// stateFinish: both close frames are queued or exchanged, or the client's input has ended and
	// nothing is owed. Ends when the outbox is empty: stateReap.
	stateFinish
	// stateFail: the last bytes are queued: a response, or a close frame without waiting for the
	// peer's. Ends when the outbox is empty: stateLinger, or stateReap if the client's input has
	// ended.
	stateFail
	// stateLinger: our side is shut; input is discarded, within bounds. Ends when the peer closes,
	// or at a bound.
	stateLinger
	// stateHandover: net/http or another process has a duplicate of the descriptor. Ends in the
	// same iteration: stateReap.
	stateHandover
	// stateReap: the connection is in reaper.conns and closed at the end of the iteration. Input
	// is ignored.
	stateReap
	// stateClosed: the descriptor is closed, the slot free. It is final.
	stateClosed
)

var stateNames = [...]string{
	"proxy", "tls", "head", "refuse", "pending", "request", "answered", "open", "closing", "finish", "fail", "linger",
	"handover", "reap", "closed",
}

func (s state) String() string { return stateNames[s] }

// stateSources has for each state the states that a connection enters it from, as bits.
var stateSources = [...]uint16{
	stateProxy:    1 << stateHead,
	stateTLS:      1 << stateHead,
	stateHead:     1<<stateProxy | 1<<stateTLS | 1<<stateRequest | 1<<stateAnswered | 1<<stateOpen,
	stateRefuse:   1 << stateHead,
	statePending:  1 << stateHead,
	stateRequest:  1 << stateHead,
	stateAnswered: 1 << stateRequest,
	stateOpen:     1<<stateHead | 1<<statePending,
	stateClosing:  1 << stateOpen,
	stateFinish:   1<<stateHead | 1<<stateOpen | 1<<stateClosing | 1<<stateFail,
	stateFail: 1<<stateTLS | 1<<stateHead | 1<<stateRefuse | 1<<statePending | 1<<stateRequest | 1<<stateAnswered | 1<<stateOpen |
		1<<stateClosing,
	stateLinger:   1 << stateFail,
	stateHandover: 1<<stateHead | 1<<stateOpen,
	stateReap:     1<<stateReap - 1,
	stateClosed:   1<<stateClosed - 1,
}

// follows reports whether a connection may enter s from the state from.
func (s state) follows(from state) bool { return stateSources[s]&(1<<from) != 0 }

// to moves the connection to another state. Nothing else assigns Conn.state.
func (c *Conn) to(next state) {
	if invariants.Enabled {
		invariants.Check(next.follows(c.state), "a connection cannot go from %s to %s", c.state, next)
	}
	c.state = next
}
