package gateway

import (
	"context"
	"errors"

	"sluice/internal/httpserver"
	"sluice/internal/owners"
	"sluice/netpoll"
)

// Sockets are duplicates of a gateway's listening sockets, for a process that takes over. The owner
// closes them.
type Sockets struct {
	Clients        []int
	Metrics, Admin int // -1: there is none
}

// Sockets returns the sockets that a started gateway listens on, or why another process cannot take
// over.
func (g *Gateway) Sockets() (s Sockets, err error) {
	s = Sockets{Metrics: -1, Admin: -1}
	if g.config.EmbeddedNATS {
		return s, errors.New("the embedded NATS server lives in this process and cannot be handed over: use a NATS server of its own, or restart")
	}
	for server, to := range servers(g, &s) {
		if l := server.Listener(); l != nil && err == nil {
			*to, err = netpoll.DupSocket(l)
		}
	}
	if err == nil {
		s.Clients, err = netpoll.Sockets(g.engine)
	}
	return s, err
}

// servers yields the servers beside the one for clients, and where s has their sockets.
func servers(g *Gateway, s *Sockets) map[*httpserver.Server]*int {
	all := make(map[*httpserver.Server]*int)
	if g.scrape != nil {
		all[g.scrape] = &s.Metrics
	}
	if g.admin != nil {
		all[g.admin.Server] = &s.Admin
	}
	return all
}

// Leave ends listening, because another process serves on the same sockets (Sockets). Clients are
// served until Stop, which does not wait for Config.ShutdownDelay then. give gets the connections
// at rest, which that process is to go on with (Arrive), those with TLS if secure is set; any
// goroutine may call it.
func (g *Gateway) Leave(secure bool, give func([]netpoll.Departed)) {
	g.left.Store(true)
	for server := range servers(g, new(Sockets)) {
		server.Leave()
	}
	netpoll.Leave(g.engine, secure, give)
}

// Arrive goes on with a connection of another process, which has left it. It owns the descriptor.
func (g *Gateway) Arrive(d netpoll.Departed) {
	if err := netpoll.Arrive(g.engine, d); err != nil {
		g.log.Debug("a connection of the old process is lost", "error", err)
	}
}

// Remember sets whether the gateway keeps what it tells clients, for Move.
func (g *Gateway) Remember(ctx context.Context, on bool) error { return g.owners.Remember(ctx, on) }

// Move moves WebSocket clients and streams to another process, after Leave, at most so many at a
// time. Remember was called before that process connected to NATS. progress gets how many have
// gone, of how many.
func (g *Gateway) Move(ctx context.Context, most int, to owners.Successor, progress func(m owners.Moving, of int)) (owners.Moving, error) {
	open := int(g.netMetrics.Open.Load() + g.netMetrics.OpenStreams.Load())
	return g.owners.Move(ctx, g.engine, open, most, to, func(m owners.Moving) { progress(m, max(open, m.Moved)) })
}

// Guests returns what goes on with the WebSocket clients and streams of another process.
func (g *Gateway) Guests(ctx context.Context) (*owners.Guests, error) {
	if err := g.owners.Remember(ctx, true); err != nil {
		return nil, err
	}
	return g.owners.NewGuests(g.engine), nil
}
