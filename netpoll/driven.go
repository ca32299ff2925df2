package netpoll

import (
	"io"
	"math"
	"net"
	"net/netip"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"
)

// Socket is the other side of a connection of a Driven engine. Its methods are called on the
// goroutine that drives the engine.
type Socket interface {
	// Write takes bytes, and returns how many of them; fewer mean that the socket is full. ok is
	// false if the client is gone.
	Write(b []byte) (n int, ok bool)
	// Closed is called when the engine has closed the connection.
	Closed()
}

// Driven is an engine without sockets and goroutines. Its creator is the network: it opens
// connections, passes on what clients send, and has the loops run, all on one goroutine. So
// everything happens in the order that it chooses. Requests for net/http, TLS and what workers do
// are not for it.
type Driven struct {
	Loops []*DrivenLoop
}

// NewDriven returns an engine whose loops run when they are driven. Options.Addr and what concerns
// listening has no effect.
func NewDriven(o Options) (*Driven, error) {
	o.Addr = "localhost:0"
	e, err := New(o)
	if err != nil {
		return nil, err
	}
	e.fdLimit, e.reservePerLoop, e.flush = math.MaxInt32, 1, FlushWrite
	d := &Driven{}
	for _, l := range e.loops {
		k := &DrivenLoop{engine: e, loop: l}
		l.el = drivenEventLoop{loop: k}
		l.taken.Store(true)
		e.bound.Store(l.el, l)
		l.output.flusher = drivenFlusher{}
		var outer net.Conn = drivenWaker{loop: k}
		l.wait.outer.Store(&outer)
		d.Loops = append(d.Loops, k)
		l.wait.woken() // starts it
	}
	return d, nil
}

// DrivenLoop is an event loop of a Driven engine.
type DrivenLoop struct {
	engine *Engine
	loop   *Loop
	woken  bool // gnet would report the loop's own socket as ready
}

// Loop returns the event loop.
func (k *DrivenLoop) Loop() *Loop { return k.loop }

// Woken reports whether the loop was woken: by a message, a deadline or itself.
func (k *DrivenLoop) Woken() bool { return k.woken }

// Turn runs the iteration that the loop was woken for.
func (k *DrivenLoop) Turn() {
	k.woken = false
	k.loop.wait.woken()
}

// Open accepts a client.
func (k *DrivenLoop) Open(s Socket, remote netip.AddrPort) *DrivenConn {
	c := &DrivenConn{loop: k, socket: s, remote: net.TCPAddrFromAddrPort(remote)}
	(*events)(k.engine).OnOpen(c)
	return c
}

// DrivenConn is a client's connection at a Driven engine, as gnet would have it.
type DrivenConn struct {
	gnet.Conn // nil: what is not defined here is not called

	loop    *DrivenLoop
	socket  Socket
	remote  net.Addr
	context any
	input   []byte // of the callback
	closed  bool
}

// Receive passes on what the client has sent, as one read.
func (c *DrivenConn) Receive(b []byte) {
	if !c.closed {
		c.input = b
		(*events)(c.loop.engine).OnTraffic(c)
		c.input = nil
	}
}

// End passes on that the client has closed the connection.
func (c *DrivenConn) End() {
	if !c.closed {
		c.closed = true
		(*events)(c.loop.engine).OnClose(c, io.ErrUnexpectedEOF)
	}
}

// Next implements gnet.Conn, as the methods that follow.
func (c *DrivenConn) Next(int) ([]byte, error) { return c.input, nil }

// Context returns what SetContext was given.
func (c *DrivenConn) Context() any { return c.context }

// SetContext keeps a value.
func (c *DrivenConn) SetContext(v any) { c.context = v }

// Fd returns no descriptor.
func (c *DrivenConn) Fd() int { return -1 }

// RemoteAddr returns the client's address.
func (c *DrivenConn) RemoteAddr() net.Addr { return c.remote }

// EventLoop returns the connection's event loop.
func (c *DrivenConn) EventLoop() gnet.EventLoop { return c.loop.loop.el }

// drivenEventLoop is a DrivenLoop as gnet would have it.
type drivenEventLoop struct {
	gnet.EventLoop // nil: only Close is called

	loop *DrivenLoop
}

// Close implements gnet.EventLoop.
func (d drivenEventLoop) Close(gc gnet.Conn) error {
	c := gc.(*DrivenConn)
	if !c.closed {
		c.closed = true
		(*events)(d.loop.engine).OnClose(c, nil)
		c.socket.Closed()
	}
	return nil
}

// drivenWaker is the socket by which a loop is woken.
type drivenWaker struct {
	net.Conn // nil: only Write and Close are called

	loop *DrivenLoop
}

// Write implements net.Conn.
func (d drivenWaker) Write(b []byte) (int, error) {
	d.loop.woken = true
	return len(b), nil
}

// drivenFlusher writes to Sockets.
type drivenFlusher struct{}

func (drivenFlusher) flush(l *Loop, batch []*Conn) {
	var space [vectorLen][]byte
	for _, c := range batch {
		l.iter.conn = c
		for again := true; again && c.queued > 0 && c.state < stateReap; {
			bufs := c.gather(space[:0])
			size := total(bufs)
			n, ok := c.gc.(*DrivenConn).socket.Write(join(nil, bufs))
			var err error
			if !ok {
				err = unix.EPIPE
			}
			again = c.sent(n, size, err)
		}
	}
}
