package owners

import (
	"sluice/fanout"
	"sluice/internal/natsbus"
)

// signals passes changes of a NATS connection to the owners (natsbus.Options.Signal). After a gap,
// every cached resource counts as reset and every access is requested again, so that clients
// receive only what has changed. It runs on the dispatchers' goroutines.
type signals struct{ *Set }

// handle handles a signal of the NATS connection with the index conn.
func (s signals) handle(conn int, signal natsbus.Signal) {
	switch signal {
	case natsbus.Disconnected:
		s.o.Grace.Lost(conn)
		s.link(conn, false)
		s.eachCaller(func(c *natsbus.Caller) { c.Cut(conn) })
	case natsbus.Connected:
		s.o.Grace.Restored(conn)
		s.link(conn, true)
	case natsbus.Gap:
		s.eachCaller(func(c *natsbus.Caller) { c.Recheck(conn) })
		s.o.Log.Warn("messages from NATS may have been missed; refetching all cached resources and rechecking all access", "connection", conn)
		for _, shard := range s.shards {
			shard.Cache.ResetAll()
		}
		s.resetAccess(fanout.Gap, func(string) bool { return true })
	}
}
