package netpoll

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"sluice/internal/owner"
	"sluice/internal/ratelimit"
)

// handed is a connection at net/http. Reads begin with the bytes that the loop had read.
type handed struct {
	net.Conn // a *deadlineConn
	engine   *Engine
	client   netip.AddrPort // the client's address from a proxy; invalid: the peer is the client
	key      ratelimit.Key  // what it is counted with; 0: it is not
	done     sync.Once
	ended    atomic.Bool // the input has ended, or is discarded

	self net.Conn // this connection as net/http has it

	mu   sync.Mutex // guards pre and rest: net/http reads in the background while a handler hijacks the connection
	pre  []byte
	rest restAtHTTP
}

// serveHTTP gives a connection to net/http. It owns the descriptor.
func (e *Engine) serveHTTP(fd int, pre []byte, client netip.AddrPort, key ratelimit.Key) {
	c, err := clientConn(fd)
	if err != nil {
		e.uncount(key)
		lostOnTheWay(e, client, err)
		return
	}
	h := &handed{Conn: c, engine: e, client: client, key: key, pre: pre}
	e.atHTTP.add(h, h)
	e.giveHTTP(h, func() { _ = h.cut() })
}

// lostOnTheWay logs that a connection could not be given to net/http. client is invalid if no proxy
// has named it.
func lostOnTheWay(e *Engine, client netip.AddrPort, err error) {
	attrs := []any{"error", err}
	if client.IsValid() {
		attrs = append(attrs, "remote", client)
	}
	e.logLost.Log(e.log, slog.LevelWarn, e.opts.Clock.Now(), warnEvery, "a connection was lost on its way to the HTTP server", attrs...)
}

// giveHTTP gives a connection to net/http. If that panics, cut closes it.
func (e *Engine) giveHTTP(c net.Conn, cut func()) {
	defer e.opts.Faults.Contain(owner.HTTP)
	given := false
	defer func() {
		if !given {
			cut()
		}
	}()
	e.awaitLoops()
	e.opts.HTTP(c)
	given = true
}

// clientConn returns the connection of a client's socket for net/http, which owns the descriptor.
func clientConn(fd int) (net.Conn, error) {
	c, err := fdConn(fd)
	if tcp, ok := c.(*net.TCPConn); ok {
		return newDeadlineConn(tcp), err
	}
	return c, err
}

// awaitLoops waits until every loop runs: gnet accepts on the first loop before the others have
// begun, and a request at net/http may go to any of them.
func (e *Engine) awaitLoops() {
	select {
	case <-e.begun:
	case <-e.ended:
	}
}

func (h *handed) Read(p []byte) (int, error) {
	h.mu.Lock()
	if h.rest.gone {
		h.mu.Unlock()
		return 0, io.EOF
	}
	rests, leaves := h.begin(len(p))
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
	if leaves && h.regain() {
		return 0, io.EOF
	}
	n, err := h.Conn.Read(p)
	if rests && h.finish(n, err) {
		return 0, io.EOF
	}
	if err == io.EOF {
		h.ended.Store(true)
	}
	if n == 0 && err == io.EOF && len(p) == 1 {
		// net/http reads one byte while a request is served, and treats any error as the client's
		// departure. But the client may have shut its side down after the request: only a reset is
		// a departure.
		return 0, awaitReset(h.socket())
	}
	return n, err
}

// socket returns the connection below TLS, if any.
func (h *handed) socket() net.Conn {
	if t, ok := h.Conn.(*tls.Conn); ok {
		return t.NetConn().(*tlsLink).socket.Conn
	}
	return h.Conn
}

// awaitReset waits until a connection has been reset, or until its deadline for reads, and returns
// that as an error.
func awaitReset(c net.Conn) error {
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return err
	}
	var reset error
	if err := raw.Read(func(fd uintptr) bool {
		reset = socketError(int(fd))
		return reset != nil
	}); err != nil {
		return err
	}
	return os.NewSyscallError("read", reset)
}

// RemoteAddr implements net.Conn. It returns the client's address, as Conn.RemoteAddr does.
func (h *handed) RemoteAddr() net.Addr {
	if h.client.IsValid() {
		return net.TCPAddrFromAddrPort(h.client)
	}
	return h.Conn.RemoteAddr()
}

// Close implements net.Conn. It lingers (see linger.go).
func (h *handed) Close() error {
	if !h.close() {
		return nil
	}
	if !h.ended.Load() && h.engine.linger(h) {
		return nil
	}
	return h.cut()
}

// cut closes the connection without lingering.
func (h *handed) cut() error {
	h.release()
	return h.Conn.Close()
}

// release removes the connection from Metrics.OpenAll and Options.Addresses.
func (h *handed) release() {
	h.done.Do(func() {
		h.engine.atHTTP.remove(h)
		h.engine.uncount(h.key)
	})
}

// unread appends the bytes that net/http has not read to head.
func (h *handed) unread(head []byte) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append(head, h.pre...)
}

// adopted is a connection that comes back from net/http.
type adopted struct {
	head   []byte         // empty: the connection is at rest
	client netip.AddrPort // as in handed
	key    ratelimit.Key  // as in handed
	link   *tlsLink       // nil: plaintext
	sealed []byte         // input that link has not been given yet

	arrived bool // from another process, at rest: see Departed
	idle    bool // a request was answered on it

	socket *WebSocket    // a WebSocket from another process: see Join
	open   func(c *Conn) // of it
}

// Adopt takes back a connection whose latest request asks for a WebSocket or a stream, after an
// earlier one was left to net/http. head is the request's head and the bytes read after it. It is
// empty if a request was answered and no byte of the next one has been read. The
// connection is one that Options.HTTP got, or a TCP connection. The engine owns it from now on: the
// caller must not use it, and if an error is returned it is closed and counted. Adopt may wait
// until a loop has taken it.
func (e *Engine) Adopt(c net.Conn, head []byte) error {
	err := e.adoptConn(c, head)
	if err != nil {
		e.metrics.AdoptFailed.Add(1)
	}
	return err
}

func (e *Engine) adoptConn(c net.Conn, head []byte) error {
	a := &adopted{head: head}
	switch h := c.(type) {
	case *handedTLS:
		c = h.detach(a)
	case *handed:
		h.release()
		a.head = h.unread(head)
		c, a.client, a.key = h.Conn, h.client, h.key
	}
	if p, ok := c.(*deadlineConn); ok {
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
	return e.register(tcp, a, nil)
}
