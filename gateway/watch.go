package gateway

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"sluice/fanout"
	"sluice/internal/natsbus"
	"sluice/internal/owner"
	"sluice/wsproto"
)

// watch decides what a cut of NATS means for clients: they are kept for the
// grace period; when NATS is back, everything cached counts as reset and every
// access as to be asked again, so that clients see only what really changed;
// past the period they are closed with 1012 and new ones refused, so that they
// try another gateway, until NATS is back.
type watch struct {
	g      *Gateway
	closed atomic.Bool // clients are refused

	mu     sync.Mutex
	down   map[int]bool  // connections that are cut
	alarm  owner.Alarm   // ends the grace period; nil while it is not running
	end    time.Duration // when it does
	putOff bool          // once, because the process did not run then
	over   bool
}

func (w *watch) init(g *Gateway) {
	w.g = g
	w.down = make(map[int]bool)
}

// signal takes what a NATS connection's dispatcher says of it.
func (w *watch) signal(conn int, s natsbus.Signal) {
	switch s {
	case natsbus.Disconnected:
		w.disconnected(conn)
		w.g.eachCaller(func(c *natsbus.Caller) { c.Cut(conn) })
	case natsbus.Connected:
		w.connected(conn)
	case natsbus.Gap:
		w.g.eachCaller(func(c *natsbus.Caller) { c.Recheck(conn) })
		w.g.log.Warn("messages from NATS may have been missed: all cached resources and accesses are asked anew", "connection", conn)
		for _, s := range w.g.shards {
			s.cache.ResetAll()
		}
		w.g.resetAccess(fanout.Gap, func(string) bool { return true })
	}
}

// eachCaller has every owner do something with its requests.
func (g *Gateway) eachCaller(do func(*natsbus.Caller)) {
	for _, s := range g.shards {
		s.cache.Run(func() { do(s.caller) })
	}
	g.eachLoop(func(l *loop) {
		l.post(func() { do(l.caller) })
	})
}

func (w *watch) disconnected(conn int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down[conn] = true
	if w.over || w.alarm != nil {
		return
	}
	grace := max(w.g.config.NATSGrace, 0)
	w.g.log.Error("connection to NATS lost; clients are kept while it is restored", "grace", grace)
	w.end, w.putOff = w.g.clock.Now()+grace, false
	w.alarm = w.g.clock.AfterFunc(grace, w.expire)
}

func (w *watch) connected(conn int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.down[conn] {
		return
	}
	delete(w.down, conn)
	if len(w.down) > 0 {
		return
	}
	if w.alarm != nil {
		w.alarm.Stop()
		w.alarm = nil
	}
	w.closed.Store(false)
	w.g.log.Info("connection to NATS restored")
}

// expire ends the grace period.
func (w *watch) expire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over || w.alarm == nil || len(w.down) == 0 {
		return
	}
	if late := w.g.clock.Now() - w.end; late > owner.Slack && !w.putOff {
		// The process did not run when it ended, and could not connect before.
		w.putOff = true
		w.alarm.Reset(owner.Grace)
		return
	}
	w.alarm = nil
	w.closed.Store(true)
	w.g.log.Error("NATS did not come back within the grace period; clients are closed", "grace", max(w.g.config.NATSGrace, time.Duration(0)))
	w.g.eachLoop(func(l *loop) {
		l.post(func() { l.net.CloseAll(wsproto.CloseServiceRestart, "NATS is not reachable") })
	})
}

// ready returns nil if clients get what they ask services for, else why not.
func (w *watch) ready() error {
	if w.closed.Load() {
		return errors.New("clients are closed: NATS has not come back within the grace period")
	}
	return w.g.bus.Ready()
}

// stop ends the watch.
func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	if w.alarm != nil {
		w.alarm.Stop()
		w.alarm = nil
	}
}
