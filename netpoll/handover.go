package netpoll

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"
)

// handed is a connection given to net/http. Reads begin with what the loop had read.
type handed struct {
	net.Conn // a *patientConn
	engine   *Engine
	client   netip.AddrPort // whom a proxy passes on; invalid: the peer itself
	done     sync.Once

	mu  sync.Mutex // net/http reads in the background while a handler takes the connection over
	pre []byte
}

// serveHTTP passes a descriptor on, which it takes over.
func (e *Engine) serveHTTP(fd int, pre []byte, client netip.AddrPort) {
	c, err := clientConn(fd)
	if err != nil {
		e.metrics.OpenAll.Add(-1)
		e.log.Warn("a connection was lost on its way to the HTTP server", "error", err)
		return
	}
	e.awaitLoops()
	e.opts.HTTP(&handed{Conn: c, engine: e, client: client, pre: pre})
}

// clientConn returns the connection of a client's socket for net/http. It takes the descriptor over.
func clientConn(fd int) (net.Conn, error) {
	c, err := fdConn(fd)
	if tcp, ok := c.(*net.TCPConn); ok {
		return newPatientConn(tcp), err
	}
	return c, err
}

// awaitLoops waits until every loop runs: gnet accepts on the first loop before the others have begun, and
// net/http may send a request to any of them.
func (e *Engine) awaitLoops() {
	select {
	case <-e.begun:
	case <-e.ended:
	}
}

func (h *handed) Read(p []byte) (int, error) {
	h.mu.Lock()
	if len(h.pre) > 0 {
		n := copy(p, h.pre)
		h.pre = h.pre[n:]
		if len(h.pre) == 0 {
			h.pre = nil
		}
		h.mu.Unlock()
		return n, nil
	}
	h.mu.Unlock()
	return h.Conn.Read(p)
}

// RemoteAddr implements net.Conn: the client's address, as Conn.RemoteAddr would tell.
func (h *handed) RemoteAddr() net.Addr {
	if h.client.IsValid() {
		return net.TCPAddrFromAddrPort(h.client)
	}
	return h.Conn.RemoteAddr()
}

// Close implements net.Conn.
func (h *handed) Close() error {
	h.release()
	return h.Conn.Close()
}

// release has the connection no longer counted as net/http's.
func (h *handed) release() { h.done.Do(func() { h.engine.metrics.OpenAll.Add(-1) }) }

// unread appends what was not read to head.
func (h *handed) unread(head []byte) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append(head, h.pre...)
}

// adopted marks a connection that comes back from net/http.
type adopted struct {
	head   []byte
	client netip.AddrPort // as in handed
	link   *tlsLink       // nil: plaintext
	sealed []byte         // input behind what link has been given
}

// Adopt takes a connection back whose latest request asks for a WebSocket or a stream, which happens when an
// earlier request on it was plain HTTP. head is the request's head and whatever bytes followed it. The connection is
// one that Options.HTTP got, or a TCP connection, and belongs to the engine now: nobody may use it any more,
// and it is closed and counted if an error is returned. Adopt may wait until a loop has it.
func (e *Engine) Adopt(c net.Conn, head []byte) error {
	err := e.takeBack(c, head)
	if err != nil {
		e.metrics.AdoptFailed.Add(1)
	}
	return err
}

func (e *Engine) takeBack(c net.Conn, head []byte) error {
	a := &adopted{head: head}
	switch h := c.(type) {
	case *handedTLS:
		c = h.comeBack(a)
	case *handed:
		h.release()
		a.head = h.unread(head)
		c, a.client = h.Conn, h.client
	}
	if p, ok := c.(*patientConn); ok {
		c = p.TCPConn
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		_ = c.Close()
		return fmt.Errorf("netpoll: a %T cannot be adopted", c)
	}
	_ = tcp.SetDeadline(time.Time{})
	e.mu.Lock()
	running := e.started && !e.stopped
	e.mu.Unlock()
	if !running {
		_ = tcp.Close()
		return errors.New("netpoll: the engine is not running")
	}
	return e.register(tcp, a)
}

// adopt goes on with a connection as if its request had just come in.
func (l *Loop) adopt(gc gnet.Conn, a *adopted) {
	e := l.engine
	c := l.newConn(gc)
	if c == nil {
		e.metrics.RefusedMax.Add(1)
		_ = l.el.Close(gc)
		return
	}
	_ = unix.SetNonblock(int(c.fd), true)
	if a.client.IsValid() {
		c.SetRemoteAddr(a.client)
	}
	e.metrics.Adopted.Add(1)
	l.wheel.Expect(&c.timer, l.now+e.opts.Limits.HeadTimeout, c)
	if a.link != nil {
		c.adoptTLS(a)
	} else {
		c.receive(a.head)
	}
}
