package netpoll

import (
	"context"
	"net/http"
	"time"

	"sluice/internal/owner"
	"sluice/wsproto"
)

// drainInterval is how often a draining loop closes its next share of connections.
const drainInterval = 20 * time.Millisecond

// drain is the state of a loop that is being emptied.
type drain struct {
	begun bool
	empty bool // reported to Drain
	start time.Duration
	next  int // slots below have been visited
	timer owner.Timer
}

// Stop ends the engine: Drain, then Close. It returns Drain's error.
func (e *Engine) Stop(ctx context.Context) error {
	err := e.Drain(ctx)
	e.Close()
	return err
}

// Drain has all clients leave. It ends listening; where that is not possible while the loops run,
// new clients get 503. WebSockets are closed with 1001, streams finished, plain requests answered,
// each with Limits.CloseTimeout at most. The closing is spread over Limits.DrainWindow, so that the
// clients do not all come to the next gateway at the same time. Connections at rest are closed.
//
// Drain returns when all clients have gone or the engine has ended, or with ctx's error.
// Connections at net/http are not waited for. The loops run on until Close, for requests that
// net/http still has.
func (e *Engine) Drain(ctx context.Context) error {
	e.mu.Lock()
	running := e.started && !e.stopped
	e.mu.Unlock()
	if !running {
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
	select {
	case <-empty:
	case <-e.ended:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// Close closes every connection that is left and ends the loops. It returns when they have ended.
// Metrics.Cut counts the connections that were not at rest.
func (e *Engine) Close() {
	e.mu.Lock()
	first := e.started && !e.stopped
	e.stopped = true
	e.mu.Unlock()
	if !first {
		return
	}
	e.draining.Store(true)
	e.quitting.Store(true)
	close(e.quit)
	for _, l := range e.loops {
		l.Wake()
	}
	<-e.ended
	for _, l := range e.loops { // the loops have ended: their state is ours
		l.ticker.Stop()
		l.closeAllHalf()
		l.reportEmpty()
	}
	e.cutLingerers()
	e.tearDown()
}

// continueDrain is the part of an iteration that concerns draining.
func (l *Loop) continueDrain() {
	d := &l.drain
	if !l.engine.draining.Load() {
		return
	}
	if p := l.wait.parker.Load(); p != nil {
		p.StopListening(l.engine.acceptLate) // each time: gnet may have been started again
	}
	if d.empty {
		return
	}
	if !d.begun {
		d.begun = true
		d.start = l.now
	}
	if d.next < len(l.table.slots) {
		l.drainSlots()
	}
}

// acceptLate has a loop take a connection that was established before listening ended.
func (e *Engine) acceptLate(fd int) {
	c, err := fdConn(fd)
	if err != nil {
		return
	}
	go func() {
		defer e.opts.Faults.Contain(owner.HTTP)
		_ = e.register(c, nil) // it waits for a loop; an error means that the engine is ending
	}()
}

// checkDrained tells Drain when the last client has gone.
func (l *Loop) checkDrained() {
	if l.drain.begun && !l.drain.empty && l.held == 0 && !l.midRequest() {
		l.reportEmpty()
	}
}

// unfinished reports whether the client would miss something if the connection were closed now.
func (c endingConn) unfinished() bool {
	switch c.state {
	case stateProxy, stateTLS:
		return false
	case stateHead:
		return c.in != nil
	}
	return c.state < stateLinger
}

// midRequest reports whether a client has sent a part of a request.
func (l *Loop) midRequest() bool {
	for i := range l.table.slots {
		if c := l.table.slots[i].conn; c != nil && c.state == stateHead && c.in != nil {
			return true
		}
	}
	return false
}

// drainSlots closes as many connections as the window's elapsed part demands.
func (l *Loop) drainSlots() {
	d := &l.drain
	end := len(l.table.slots)
	if window := l.engine.opts.Limits.DrainWindow; window > 0 && l.now < d.start+window {
		// The first share comes at once: a few clients are not kept waiting for the sake of the
		// spread.
		end = int(int64(end)*int64(l.now-d.start)/int64(window)) + 1
		end = min(end, len(l.table.slots))
	}
	for d.next < end {
		c := l.table.slots[d.next].conn
		d.next++ // whatever becomes of this one
		if c == nil {
			continue
		}
		l.work.conn = c
		switch c.state {
		case stateProxy, stateTLS:
			c.scheduleClose()
		case stateHead:
			if c.in == nil {
				c.scheduleClose()
				continue
			}
			l.wheel.Schedule(&c.timer, l.now+l.engine.opts.Limits.CloseTimeout, c) // for the rest of the request
		case stateRequest, stateAnswered:
			c.flags |= flagLast
			l.wheel.Expect(&c.timer, l.now+l.engine.opts.Limits.CloseTimeout, c)
		case statePending:
			c.http().refusePending(&l.engine.metrics.RefusedDrain, c.http().errorResponse(http.StatusServiceUnavailable))
		default:
			c.Close(wsproto.CloseGoingAway, "the gateway is being stopped")
		}
	}
	l.work.conn = nil
	if d.next < len(l.table.slots) && !d.timer.Armed() {
		l.wheel.Schedule(&d.timer, l.now+drainInterval, owner.Func(func(time.Duration) {}))
	}
}

// reportEmpty tells Drain that the loop has no connections any more.
func (l *Loop) reportEmpty() {
	if !l.drain.empty {
		l.drain.empty = true
		l.engine.drained.Done()
	}
}

// CloseAll closes every WebSocket connection of the loop after what is queued for it. Streams are
// finished, pending upgrades rejected with 503. Connections without a whole request head stay, and
// so do those of plain requests.
func (l *Loop) CloseAll(code uint16, reason string) {
	for i := range l.table.slots {
		if c := l.table.slots[i].conn; c != nil {
			attempt(c, func(c *Conn) { c.Close(code, reason) })
		}
	}
}
