package httpedge

import (
	"sluice/internal/session"
	"sluice/netpoll"
)

// Held tells the engine of the events that sessions hold for clients that lag (netpoll.Holder).
// Conn.Session of such a connection has the method Session.
type Held struct{ Metrics *session.Metrics }

// Held implements netpoll.Holder.
func (h Held) Held() (bytes, shares int64) {
	return h.Metrics.HeldBytes.Load(), h.Metrics.HeldShares.Load()
}

// HeldFor implements netpoll.Holder.
func (h Held) HeldFor(c *netpoll.Conn) int64 {
	if s := SessionOf(c); s != nil {
		return s.HeldBytes()
	}
	return 0
}

// Drop implements netpoll.Holder: a session that has ended holds nothing.
func (h Held) Drop(c *netpoll.Conn) {
	if s := SessionOf(c); s != nil {
		s.Close()
	}
}

// SessionOf returns the session of a connection's client; nil if it has none.
func SessionOf(c *netpoll.Conn) *session.Session {
	if a, ok := c.Session.(interface{ Session() *session.Session }); ok {
		return a.Session()
	}
	return nil
}
