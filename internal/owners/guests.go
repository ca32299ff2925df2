package owners

import (
	"sync"
	"sync/atomic"
	"time"

	"sluice/internal/connid"
	"sluice/internal/natsbus"
	"sluice/internal/overlap"
)

// guests are the clients that have come from another process (docs/upgrade.md). They keep their
// connection IDs, by which services know them, and which IDs.Parse does not know. While they come,
// token events for any foreign ID are kept, too: they may be for one that is on its way.
//
// Loops write it, a dispatcher reads it for each token event: no other event needs it. With no
// guests and none to come there is no lock.
type guests struct {
	on     atomic.Bool // places or tokens may have something
	mu     sync.Mutex
	places map[string]connid.ID
	coming int // of how many processes clients may come, or come back
	tokens []toldToken
}

const (
	mostTokens = 1 << 16
	tokensFor  = 2 * overlap.Apart
)

// expect has token events kept for clients that may come (1), or ends that (-1).
func (g *guests) expect(change int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.coming += change; g.coming == 0 {
		g.tokens = nil
	}
	g.on.Store(g.coming > 0 || len(g.places) > 0)
}

// token returns where the client of a token event is. If it is on its way, the event is kept.
func (g *guests) token(cid string, data []byte, now time.Duration) (id connid.ID, ok bool) {
	if !g.on.Load() {
		return id, false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if id, ok = g.places[cid]; ok || g.coming == 0 {
		return id, ok
	}
	old := 0
	for old < len(g.tokens) && (g.tokens[old].At < now-tokensFor || len(g.tokens)-old >= mostTokens) {
		old++
	}
	g.tokens = append(g.tokens[old:], toldToken{cid, overlap.Mark{Sum: natsbus.HashName(string(data)), At: now}, data})
	return id, false
}

// join notes where a client is, and returns the token events that came before it, in order.
func (g *guests) join(cid string, id connid.ID) (tokens []toldToken) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.places[cid] = id
	g.on.Store(true)
	rest := g.tokens[:0]
	for _, t := range g.tokens {
		if t.cid == cid {
			tokens = append(tokens, t)
		} else {
			rest = append(rest, t)
		}
	}
	clear(g.tokens[len(rest):])
	g.tokens = rest
	return tokens
}

// leave is called when the client has gone.
func (g *guests) leave(cid string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.places, cid)
	g.on.Store(g.coming > 0 || len(g.places) > 0)
}

// find returns where a client is.
func (g *guests) find(cid string) (id connid.ID, ok bool) {
	if !g.on.Load() {
		return id, false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	id, ok = g.places[cid]
	return id, ok
}

// Parse returns what a connection ID names: one that this process has made, or a client that has
// come with it from another one.
func (s *Set) Parse(cid string) (id connid.ID, ok bool) {
	if id, ok = s.guests.find(cid); !ok { // first: it may be one of this process that has come back
		id, ok = s.o.IDs.Parse(cid)
	}
	return id, ok
}
