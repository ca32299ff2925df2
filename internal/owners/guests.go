package owners

import (
	"sync"
	"sync/atomic"
	"time"

	"sluice/internal/connid"
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
	coming bool
	tokens []foreignToken
}

// foreignToken is a token event of another process's client.
type foreignToken struct {
	cid  string
	data []byte
	at   time.Duration
}

const (
	mostTokens = 1 << 16
	tokensFor  = 2 * overlap.Apart
)

// expect has token events kept for clients that may come, or ends that.
func (g *guests) expect(coming bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.coming, g.tokens = coming, nil
	g.on.Store(coming || len(g.places) > 0)
}

// token returns where the client of a token event is. If it is on its way, the event is kept.
func (g *guests) token(cid string, data []byte, now time.Duration) (id connid.ID, ok bool) {
	if !g.on.Load() {
		return id, false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if id, ok = g.places[cid]; ok || !g.coming {
		return id, ok
	}
	old := 0
	for old < len(g.tokens) && (g.tokens[old].at < now-tokensFor || len(g.tokens)-old >= mostTokens) {
		old++
	}
	g.tokens = append(g.tokens[old:], foreignToken{cid, data, now})
	return id, false
}

// join notes where a client is, and returns the token events that came before it, in order.
func (g *guests) join(cid string, id connid.ID) (tokens []foreignToken) {
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
	g.on.Store(g.coming || len(g.places) > 0)
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
	if id, ok = s.o.IDs.Parse(cid); !ok {
		id, ok = s.guests.find(cid)
	}
	return id, ok
}
