package httpedge

import (
	"sync/atomic"

	"sluice/fanout"
	"sluice/internal/session"
	"sluice/netpoll"
)

// Held tells the engine of what sessions hold for clients that lag (netpoll.Holder): events, and
// the old states and long differences that these clients are sent the newest state from.
// Conn.Session of such a connection has the method Session.
type Held struct {
	Sessions *session.Metrics
	Fanout   *fanout.Metrics
}

// Held implements netpoll.Holder.
func (h Held) Held() int64 { return h.Sessions.HeldBytes.Load() + h.Fanout.VersionBytes.Load() }

// HeldFor implements netpoll.Holder. Events and versions are shared to different degrees, so each
// counts by its own.
func (h Held) HeldFor(c *netpoll.Conn) int64 {
	s := SessionOf(c)
	if s == nil {
		return 0
	}
	events, versions := s.Held()
	return part(events, &h.Sessions.HeldBytes, &h.Sessions.HeldShares) + part(versions, &h.Fanout.VersionBytes, &h.Fanout.VersionShares)
}

// part returns what share, one of those whose sum is shares, is of bytes.
func part(share int64, bytes, shares *atomic.Int64) int64 {
	b, all := bytes.Load(), shares.Load()
	if share <= 0 || b <= 0 || all <= 0 {
		return 0
	}
	return int64(float64(b) * min(float64(share)/float64(all), 1))
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
