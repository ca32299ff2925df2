package netpoll

import (
	"context"
	"net/http"
	"time"

	"sluice/internal/owner"
	"sluice/wsproto"
)

// drainStep is how often a draining loop closes its next share of connections.
const drainStep = 20 * time.Millisecond

// drain is the state of a loop that is being emptied.
type drain struct {
	begun bool
	empty bool // reported to Stop
	start time.Duration
	next  int // slots below have been visited
	timer owner.Timer
}

// Stop ends the engine. New clients get 503 from now on, since gnet cannot stop listening by itself; those
// there are closed with 1001, streams finished, plain requests answered, spread over Limits.DrainWindow, so that they do not all come
// back to the next gateway at once. When all are gone, or ctx ends, whatever is left is closed and the loops end. Connections
// at net/http are not the engine's any more. Stop returns ctx's error if it did not wait for all clients.
func (e *Engine) Stop(ctx context.Context) error {
	e.mu.Lock()
	first := e.started && !e.stopped
	e.stopped = true
	e.mu.Unlock()
	if !first {
		return nil
	}
	e.draining.Store(true)
	for _, l := range e.loops {
		l.Wake()
	}
	empty := make(chan struct{})
	go func() {
		e.drained.Wait()
		close(empty)
	}()
	var err error
	select {
	case <-empty:
	case <-ctx.Done():
		err = ctx.Err()
	}
	e.quitting.Store(true)
	close(e.quit)
	for _, l := range e.loops {
		l.Wake()
	}
	<-e.ended
	for _, l := range e.loops { // the loops have ended: their state is ours
		l.ticker.Stop()
		l.reportEmpty()
	}
	e.tearDown()
	return err
}

// drainTurn is the part of a turn that concerns draining.
func (l *Loop) drainTurn() {
	d := &l.drain
	if d.empty || !l.engine.draining.Load() {
		return
	}
	if !d.begun {
		d.begun = true
		d.start = l.now
	}
	if d.next < len(l.table.slots) {
		l.drainShare()
	}
}

// drainCheck tells Stop when the last client has gone.
func (l *Loop) drainCheck() {
	if l.drain.begun && l.held == 0 {
		l.reportEmpty()
	}
}

// drainShare closes as many connections as the window's elapsed part demands.
func (l *Loop) drainShare() {
	d := &l.drain
	end := len(l.table.slots)
	if window := l.engine.opts.Limits.DrainWindow; window > 0 && l.now < d.start+window {
		// The first share comes at once: a few clients are not kept waiting for the sake of the spread.
		end = int(int64(end)*int64(l.now-d.start)/int64(window)) + 1
		end = min(end, len(l.table.slots))
	}
	for ; d.next < end; d.next++ {
		c := l.table.slots[d.next].conn
		if c == nil {
			continue
		}
		switch c.state {
		case stateProxy, stateTLS, stateHead:
			c.doom()
		case stateRequest, stateAnswered:
			c.flags |= flagLast
			l.wheel.Schedule(&c.timer, l.now+l.engine.opts.Limits.CloseTimeout, c)
		case statePending:
			c.turnDown(&l.engine.metrics.RefusedDrain, c.errorResponse(http.StatusServiceUnavailable))
		default:
			c.Close(wsproto.CloseGoingAway, "the gateway is being stopped")
		}
	}
	if d.next < len(l.table.slots) && !d.timer.Armed() {
		l.wheel.Schedule(&d.timer, l.now+drainStep, owner.Func(func(time.Duration) {}))
	}
}

// reportEmpty tells Stop that the loop has no connections any more.
func (l *Loop) reportEmpty() {
	if !l.drain.empty {
		l.drain.empty = true
		l.engine.drained.Done()
	}
}
