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

const stopText = "the gateway is being stopped"

// drain closes the connections of a loop that is being stopped. Owned by the loop.
type drain struct {
	loop  *Loop // fixed
	begun bool
	empty bool // reported to Drain
	start time.Duration
	next  int // slots below have been visited
	timer owner.Timer

	departAt time.Duration // when the next connections may depart
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
// clients do not all reconnect at the same time. Connections at rest are closed.
//
// Drain returns when all clients have left or the engine has ended, or with ctx's error.
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
	passed{e}.close()
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
	for _, l := range e.loops { // the loops have ended, so their state has no other user
		l.ticker.Stop()
		l.half.closeAll()
		l.drain.reportEmpty()
	}
	e.cutLingerers()
	e.tearDown()
}

// advance closes the connections that are due, once Engine.Drain was called.
func (d *drain) advance() {
	l := d.loop
	draining, left := l.engine.draining.Load(), l.engine.left.Load()
	if p := l.wait.parker.Load(); p != nil && (draining || left) {
		late := l.engine.acceptLate
		if left {
			late = nil // the kernel's queue is the other process's
		}
		p.StopListening(late) // in each iteration: gnet may have been restarted
	}
	if left && !d.empty && l.now >= d.departAt {
		d.departAt = l.now + drainInterval
		d.depart()
		d.again()
	}
	if !draining || d.empty {
		return
	}
	if !d.begun {
		d.begun = true
		d.start = l.now
	}
	if d.next < len(l.table.slots) {
		d.closeShare()
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
		_ = e.register(c, nil, nil) // it waits for a loop; an error means that the engine is ending
	}()
}

// check reports the loop as empty once the last client has left.
func (d *drain) check() {
	if !d.begun || d.empty || d.loop.held > 0 || d.midRequest() {
		return
	}
	if d.loop.engine.left.Load() && d.depart() > 0 {
		d.loop.reaper.reap() // now: gnet must not read them once more
	}
	d.reportEmpty()
}

// unfinished reports whether the client would miss something if the connection were closed now.
func (c endingConn) unfinished() bool {
	switch c.state {
	case stateProxy, stateTLS:
		return false
	case stateHead:
		return !c.in.empty()
	}
	return c.state < stateLinger
}

// midRequest reports whether a client has sent part of a request.
func (d *drain) midRequest() bool {
	slots := d.loop.table.slots
	for i := range slots {
		if c := slots[i].conn; c != nil && c.state == stateHead && !c.in.empty() {
			return true
		}
	}
	return false
}

// closeShare closes as many connections as the elapsed part of Limits.DrainWindow demands.
func (d *drain) closeShare() {
	l := d.loop
	limits := &l.opts.Limits
	end := len(l.table.slots)
	if window := limits.DrainWindow; window > 0 && l.now < d.start+window {
		// The first share is closed immediately, so that a few clients do not wait for the window.
		end = int(int64(end)*int64(l.now-d.start)/int64(window)) + 1
		end = min(end, len(l.table.slots))
	}
	for d.next < end {
		c := l.table.slots[d.next].conn
		d.next++ // before the close, which may panic
		if c == nil {
			continue
		}
		l.iter.conn = c
		switch c.state {
		case stateProxy, stateTLS:
			c.scheduleClose()
		case stateHead:
			switch {
			case c.in.empty() && c.ending().closesIdle():
				c.scheduleClose()
				continue
			case c.in.empty():
				continue // it departs
			}
			l.wheel.Schedule(&c.timer, l.now+limits.CloseTimeout, c) // for the rest of the request
		case stateRequest, stateAnswered:
			if c.ending().closesIdle() {
				c.flags |= flagLast
			}
			l.wheel.Expect(&c.timer, l.now+limits.CloseTimeout, c)
		case statePending:
			c.http().refusePending(&l.engine.metrics.RefusedDrain, c.http().errorResponse(http.StatusServiceUnavailable))
		default:
			Because(c, CauseDraining)
			c.ending().sendAway(wsproto.CloseGoingAway, stopText)
		}
	}
	l.iter.conn = nil
	if d.next < len(l.table.slots) {
		d.again()
	}
}

// again has another iteration follow.
func (d *drain) again() {
	if l := d.loop; !d.timer.Armed() {
		l.wheel.Schedule(&d.timer, l.now+drainInterval, owner.Func(func(time.Duration) {}))
	}
}

// reportEmpty notifies Engine.Drain that the loop has no clients left.
func (d *drain) reportEmpty() {
	if !d.empty {
		d.empty = true
		d.loop.engine.drained.Done()
	}
}
