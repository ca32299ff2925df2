package gateway

import "context"

// Alive returns nil once every event loop and cache shard has handled a message, so that all of
// them turn, or ctx's error. It is for a watchdog: an owner that hangs keeps it waiting.
func (g *Gateway) Alive(ctx context.Context) error {
	turned := make(chan struct{}, len(g.loops)+len(g.shards))
	posted := 0
	turn := func() { turned <- struct{}{} }
	g.eachLoop(func(l *loop) {
		posted++
		l.post(turn)
	})
	for _, s := range g.shards {
		posted++
		s.Cache.Run(turn)
	}
	for range posted {
		select {
		case <-turned:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
