package netpoll

// Cause is why a connection has ended. Each that Metrics counts as closed by the gateway has the
// name of that metric's reason.
type Cause uint8

const (
	// CauseClient: the client has closed the connection, or is gone; or the Handler gave no cause.
	CauseClient Cause = iota
	// CauseOutbox: more than Limits.OutboxBytes were queued for it.
	CauseOutbox
	// CauseSlow: it took nothing for Limits.SlowTimeout.
	CauseSlow
	// CauseBacklog: all slow clients held more than Limits.BacklogBytes, or memory was scarce.
	CauseBacklog
	// CausePing: it did not answer a ping.
	CausePing
	// CauseTLS: a record was malformed.
	CauseTLS
	// CauseProtocol: it broke RFC 6455, or exceeded Limits.MaxMessage.
	CauseProtocol
	// CauseDraining: the gateway is being stopped.
	CauseDraining
	// CauseFault: a panic while the loop worked for it.
	CauseFault
	// CauseNATS: the Handler closed it because NATS is unreachable.
	CauseNATS
	// CauseOperator: an operator closed it.
	CauseOperator
	// CauseRefused: a service has denied the stream, or it could not be loaded.
	CauseRefused
	// CauseEnded: the stream's subscription has ended.
	CauseEnded

	causes
)

var causeNames = [causes]string{
	"client", "outbox", "slow", "backlog", "ping", "tls", "protocol", "draining", "fault", "nats", "operator", "refused", "ended",
}

func (c Cause) String() string { return causeNames[c] }

// Because notes why a connection is about to be closed, on its loop. The first cause counts, and
// none once the connection has begun to close.
func Because(c *Conn, cause Cause) {
	l := c.loop
	if _, known := l.causes[c.slot]; known || cause == CauseClient || c.state > stateOpen {
		return
	}
	if l.causes == nil {
		l.causes = make(map[uint32]Cause)
	}
	l.causes[c.slot] = cause
}

// Ending returns why a connection has ended, and the close code of a WebSocket; 0: it has none. It
// may be called during Handler.Closed, and before it once the connection has begun to close.
func Ending(c *Conn) (Cause, uint16) {
	if c.flags&flagOpened == 0 {
		return c.loop.causes[c.slot], 0
	}
	return c.loop.causes[c.slot], c.code
}
