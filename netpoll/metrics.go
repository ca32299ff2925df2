package netpoll

import (
	"sync/atomic"

	"sluice/wsproto"
)

// Metrics counts what an Engine does. The loops write it, any goroutine may read it. Fields of type
// Int64 are levels, all others only grow.
type Metrics struct {
	Accepted atomic.Uint64 // connections accepted, those refused included
	Upgraded atomic.Uint64 // WebSocket connections opened
	Open     atomic.Int64  // WebSocket connections open now
	OpenAll  atomic.Int64  // connections open now: WebSocket, stream, plain HTTP and undecided
	Closed   [len(closeCodes) + 1]atomic.Uint64

	// Connections that never became a WebSocket or a plain HTTP connection, by reason.
	RefusedFDs     atomic.Uint64 // 503: descriptors are running out
	RefusedMax     atomic.Uint64 // 503: Limits.MaxConns
	Evicted        atomic.Uint64 // closed in favour of a new connection: idle longest before their request head was complete
	RefusedRate    atomic.Uint64 // 503: Limits.AcceptRate
	AcceptPauses   atomic.Uint64 // times that a loop left its listeners alone: Limits.AcceptPace
	RefusedMemory  atomic.Uint64 // 503: Engine.Refuse
	RefusedDrain   atomic.Uint64 // 503: the engine is being drained
	RefusedHead    atomic.Uint64 // the request head is malformed or too large
	RefusedTimeout atomic.Uint64 // the request head was not complete in time
	RefusedUpgrade atomic.Uint64 // a handshake that breaks RFC 6455, or that the Handler refused
	RefusedProxy   atomic.Uint64 // closed: a trusted proxy's header is malformed

	Pending     atomic.Int64  // upgrades that the Handler has not decided on, now
	Streams     atomic.Uint64 // streams begun
	OpenStreams atomic.Int64  // streams open now
	Proxied     atomic.Uint64 // connections that a trusted proxy's header came with

	Requests atomic.Uint64 // plain requests that the Handler kept
	// ResponseBytes are bytes of responses to plain requests in outboxes, except of short ones that
	// their sockets take immediately.
	ResponseBytes atomic.Int64

	Handovers atomic.Uint64 // connections given to net/http
	Adopted   atomic.Uint64 // connections that came back from net/http
	Departed  atomic.Uint64 // connections that another process goes on with
	Arrived   atomic.Uint64 // connections from another process

	AdoptFailed atomic.Uint64 // connections lost on their way back from net/http
	Cut         atomic.Uint64 // connections not at rest that Engine.Close has closed

	// Each TLS handshake that was started ends in one of the next five, or is in flight.
	TLSStarted     atomic.Uint64 // connections of which a handshake is expected
	TLSDone        atomic.Uint64
	TLSFailed      atomic.Uint64 // not TLS, not acceptable, or given up by the client
	TLSTimeout     atomic.Uint64 // took longer than Limits.HandshakeTimeout
	TLSRefused     atomic.Uint64 // Limits.HandshakeQueue was full
	TLSSilent      atomic.Uint64 // idle longest when all of Limits.MaxHandshakes were in use
	TLSHandshaking atomic.Int64  // in progress now, those that wait for the client included
	TLSResumed     atomic.Uint64 // of those done: with a ticket of an earlier one
	TLSH2          atomic.Uint64 // of those done: HTTP/2, given to net/http
	TLSRests       atomic.Uint64 // times that a connection has dropped its ciphers, because it was idle
	TLSBroken      atomic.Uint64 // connections closed because a record was invalid, after the handshake

	BytesIn    atomic.Uint64 // sealed bytes with TLS; without connections at net/http
	BytesOut   atomic.Uint64
	Writes     atomic.Uint64 // writes to connections: system calls of their own, or sends submitted to io_uring
	Submits    atomic.Uint64 // submissions to io_uring, which carry sends to many connections each
	Messages   atomic.Uint64 // complete text and binary messages received
	Frames     atomic.Uint64 // frames and pieces of streams taken by Conn.Send
	Lagging    atomic.Int64  // connections whose socket does not take their output, now
	Lags       atomic.Uint64 // times that a connection began to lag
	HalfClosed atomic.Uint64 // connections that went on after their client had ended its input
	DiscardCut atomic.Uint64 // connections closed because more input followed a last response than is discarded, in bytes or time
	Overflows  atomic.Uint64 // connections closed because a bound of their outbox or of their buffered input was reached
	PingLost   atomic.Uint64 // connections closed because a ping was not answered
	Wakes      atomic.Uint64 // wake-ups of loops
	Restarts   atomic.Uint64 // times that gnet was restarted after an accept error
	Paused     atomic.Int64  // connections whose messages wait for Conn.Resume, now
	Pauses     atomic.Uint64 // times that Conn.Pause had them wait
	Yields     atomic.Uint64 // times that a connection had more frames than an iteration handles
	Inflated   atomic.Uint64 // compressed messages inflated off the loops
	Offloaded  atomic.Uint64 // times that Conn.Offload had a worker do something

	BacklogBytes  atomic.Int64  // queued for connections that lag, sealed records included
	SlowClosed    atomic.Uint64 // connections closed because they took nothing for Limits.SlowTimeout
	BacklogClosed atomic.Uint64 // connections closed because all that lag held more than Limits.BacklogBytes

	Throttled         atomic.Int64  // connections that have sent more than their rates allow, and are not read
	MessagesThrottled atomic.Uint64 // times that one was not read any more because of Limits.MessageRate
	BytesThrottled    atomic.Uint64 // the same for Limits.ByteRate
}

// CloseAbnormal is the close code of a connection that ended without a close frame (RFC 6455
// §7.1.5).
const CloseAbnormal uint16 = 1006

var closeCodes = [...]uint16{
	wsproto.CloseNormal, wsproto.CloseGoingAway, wsproto.CloseProtocolError, wsproto.CloseUnsupported,
	wsproto.CloseNoStatus, CloseAbnormal, wsproto.CloseInvalidPayload, wsproto.ClosePolicy, wsproto.CloseTooLarge,
	wsproto.CloseInternalError, wsproto.CloseServiceRestart, wsproto.CloseTryAgainLater,
}

// CloseCodes lists the close codes that are counted one by one; all others are counted together.
func CloseCodes() []uint16 { return closeCodes[:] }

// ClosedWith returns the counter of WebSocket connections that ended with a close code, ours or the
// peer's, whichever came first. Codes beyond CloseCodes share one counter.
func (m *Metrics) ClosedWith(code uint16) *atomic.Uint64 {
	for i, c := range closeCodes {
		if c == code {
			return &m.Closed[i]
		}
	}
	return &m.Closed[len(closeCodes)]
}

// stats are a loop's counters of the current iteration, which its end adds to Metrics: the loops
// share those, so each addition costs more. Owned by the loop.
type stats struct{ in, out, writes, submits, messages, frames, requests uint64 }

// publish adds the counters to m and clears them.
func (s *stats) publish(m *Metrics) {
	if s.in > 0 {
		m.BytesIn.Add(s.in)
	}
	if s.messages > 0 {
		m.Messages.Add(s.messages)
	}
	if s.frames > 0 {
		m.Frames.Add(s.frames)
	}
	if s.requests > 0 {
		m.Requests.Add(s.requests)
	}
	if s.writes > 0 {
		m.Writes.Add(s.writes)
		m.BytesOut.Add(s.out)
		if s.submits > 0 {
			m.Submits.Add(s.submits)
		}
	}
	*s = stats{}
}
