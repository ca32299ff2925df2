package netpoll

import (
	"crypto/tls"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A response that is sent before its request is complete, to a body that is too long for example,
// must not be followed by close(2): closing a socket with unread input resets the connection, and
// the client loses the response. So the gateway shuts its own side down and discards further input
// (RFC 9112 §9.6). That is bounded by maxDiscard bytes, by Limits.ReadTimeout in all, and by
// Limits.CloseTimeout without input. Loops do so, and so do connections that net/http closes.

const (
	maxDiscard    = 64 << 20 // bytes that are discarded after a last response
	discardBuffer = 32 << 10 // bytes of one read for that
)

// lingering is what a connection on a loop may still send after our side has been shut.
type lingering struct {
	until time.Duration
	left  int // bytes
}

// startLinger shuts our side down. The timer is already armed for Limits.CloseTimeout.
func (c endingConn) startLinger() {
	l := c.loop
	c.to(stateLinger)
	if unix.Shutdown(int(c.fd), unix.SHUT_WR) != nil {
		c.scheduleClose()
		return
	}
	if c.flags&flagReserve == 0 {
		if l.lingers == nil {
			l.lingers = make(map[uint32]lingering)
		}
		l.lingers[c.slot] = lingering{l.now + l.opts.Limits.ReadTimeout, maxDiscard}
	}
}

// discard counts n bytes of discarded input. Within the bounds it postpones the close.
func (c endingConn) discard(n int) {
	l := c.loop
	g, ok := l.lingers[c.slot]
	if !ok {
		return
	}
	if g.left -= n; g.left < 0 {
		l.engine.metrics.DiscardCut.Add(1)
		c.scheduleClose()
		return
	}
	l.lingers[c.slot] = g
	if !l.engine.draining.Load() {
		l.wheel.Expect(&c.timer, min(l.now+l.opts.Limits.CloseTimeout, g.until), c.Conn)
	}
}

// lingered closes a connection that has been idle for Limits.CloseTimeout, or has lingered for
// Limits.ReadTimeout.
func (c endingConn) lingered(now time.Duration) {
	l := c.loop
	if g, ok := l.lingers[c.slot]; ok && now >= g.until && !l.engine.draining.Load() {
		l.engine.metrics.DiscardCut.Add(1)
	}
	c.scheduleClose()
}

// forgetLinger removes the state of the linger, before the slot is free.
func (c endingConn) forgetLinger() {
	if len(c.loop.lingers) > 0 {
		delete(c.loop.lingers, c.slot)
	}
}

// lingerers are the connections from net/http that linger, each on a goroutine of its own.
type lingerers struct {
	mu    sync.Mutex
	conns map[*handed]struct{}
	over  bool // the engine has ended: connections are cut
	all   sync.WaitGroup
}

// linger shuts a connection's own side down, discards its input and closes it, on a goroutine. It
// reports whether it does: not if it was called before or the engine has ended.
func (e *Engine) linger(h *handed) bool {
	g := &e.lingers
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, again := g.conns[h]; again || g.over {
		return false
	}
	if g.conns == nil {
		g.conns = make(map[*handed]struct{})
	}
	g.conns[h] = struct{}{}
	g.all.Go(func() {
		_ = h.CloseWrite()
		g.mu.Lock()
		delete(g.conns, h)
		g.mu.Unlock()
		_ = h.cut()
	})
	return true
}

// cutLingerers closes the connections that still linger, and waits for their goroutines.
func (e *Engine) cutLingerers() {
	g := &e.lingers
	g.mu.Lock()
	g.over = true
	for h := range g.conns {
		_ = h.socket().Close()
	}
	g.mu.Unlock()
	g.all.Wait()
}

// CloseWrite shuts our side down, and discards what the client still sends. net/http calls it, on
// the connection's goroutine, when it has not read a request's body to its end.
func (h *handed) CloseWrite() error {
	h.ended.Store(true)
	if t, ok := h.Conn.(*tls.Conn); ok {
		_ = t.CloseWrite()
	}
	c := h.socket()
	err := c.(interface{ CloseWrite() error }).CloseWrite()
	if err == nil {
		h.engine.discard(c)
	}
	return err
}

// discard reads a connection until its end or one of the bounds.
func (e *Engine) discard(c net.Conn) {
	l := e.limits.Load()
	until := time.Now().Add(l.ReadTimeout)
	b := make([]byte, discardBuffer)
	for left := maxDiscard; left >= 0; {
		at := time.Now().Add(l.CloseTimeout)
		if until.Before(at) {
			at = until
		}
		_ = c.SetReadDeadline(at)
		n, err := c.Read(b)
		if left -= n; err != nil {
			if !time.Now().Before(until) {
				break
			}
			return
		}
	}
	e.metrics.DiscardCut.Add(1)
}
