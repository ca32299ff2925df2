package netpoll

import (
	"net/http"

	"sluice/internal/alternate"
)

// elsewhere returns the URL of the gateway that the next client should connect to in place of this
// one; "" if there is none, and if another process serves on the same sockets: clients that connect
// again reach that one.
func elsewhere(e *Engine) string {
	if e.left.Load() {
		return ""
	}
	return e.opts.Alternates.Next()
}

// hint returns the field line of a response with a status; "" if the client need not go elsewhere.
func (c httpConn) hint(status int) string {
	if status != http.StatusServiceUnavailable {
		return ""
	}
	if url := elsewhere(c.loop.engine); url != "" {
		return alternate.Line(url)
	}
	return ""
}

// sendAway is Close for a client that another gateway is to serve: a WebSocket learns its URL from
// the reason, a stream by Options.Elsewhere. Without another gateway the reason is the one given.
func (c endingConn) sendAway(code uint16, reason string) {
	e := c.loop.engine
	if c.state == stateOpen {
		url := elsewhere(e)
		switch {
		case url == "":
		case c.flags&flagStream == 0:
			reason = alternate.Reason(url)
		case e.opts.Elsewhere != nil:
			e.opts.Elsewhere(c.Conn, url)
		}
	}
	c.Close(code, reason)
}
