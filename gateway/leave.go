package gateway

import (
	"errors"

	"sluice/internal/httpserver"
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
	for server, to := range g.servers(&s) {
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
func (g *Gateway) servers(s *Sockets) map[*httpserver.Server]*int {
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
// at rest, which that process is to go on with (Arrive); any goroutine may call it.
func (g *Gateway) Leave(give func([]netpoll.Departed)) {
	g.left.Store(true)
	for server := range g.servers(new(Sockets)) {
		server.Leave()
	}
	netpoll.Leave(g.engine, give)
}

// Arrive goes on with a connection of another process, which has left it. It owns the descriptor.
func (g *Gateway) Arrive(d netpoll.Departed) {
	if err := netpoll.Arrive(g.engine, d); err != nil {
		g.log.Debug("a connection of the old process is lost", "error", err)
	}
}
