package httpedge

import (
	"net/http"

	"sluice/internal/alternate"
	"sluice/internal/httpapi"
	"sluice/netpoll"
)

var exposed = []string{alternate.Field}

// hint adds the URL of another gateway to the header of a response, if the client should go there.
// Pages of other origins may read it.
func (e *Edge) hint(header http.Header) {
	if e.o.Gateway.Elsewhere == nil {
		return
	}
	if url := e.o.Gateway.Elsewhere(); url != "" {
		header[alternate.Field] = []string{url}
		header["Access-Control-Expose-Headers"] = exposed
	}
}

// SendAway sends the URL of another gateway on a stream, in an event of its own
// (netpoll.Options.Elsewhere).
func SendAway(c *netpoll.Conn, url string) {
	if s, ok := c.Session.(*stream); ok && s.begun {
		c.Send(alternate.Event(url))
	}
}

// sendAway ends a stream on net/http in the same way. Only the loop of its session may use out.
func (e *Edge) sendAway(l *Loop, out httpapi.Sink) {
	url := ""
	if e.o.Gateway.Elsewhere != nil {
		url = e.o.Gateway.Elsewhere()
	}
	if url == "" {
		out.Close()
		return
	}
	l.post(func() {
		out.Send(alternate.Event(url))
		out.Close()
	})
}
