package netpoll

import (
	"errors"
	"net/netip"
	"time"

	"sluice/internal/ratelimit"
	"sluice/netpoll/tlskeys"
)

// WebSocket is a WebSocket or a stream that another process is to go on with, but for its
// descriptor. What the kernel holds of its input and output goes with that.
type WebSocket struct {
	Stream          bool           // it is a stream
	Client          netip.AddrPort // address that a proxy has given; invalid: the peer is the client
	Deflate         bool           // see Conn.EnableDeflate
	Named, Exempt   bool           // see SetNamed, SetExempt
	Counted         bool           // by its address
	Idle            time.Duration  // since it was active
	Pinged          bool           // a pong is awaited
	Lagging         bool           // it is a slow consumer
	Messages, Bytes uint32         // what is missing from its buckets, in the unit of meter
	In, Out         []byte         // input that was not handled, and output that was not written
	TLS             *Sealed        // nil: plaintext, as In and Out always are

	Keys tlskeys.Keys `json:"-"` // of TLS: they go apart, and are to be wiped

	// Shared says that the connection has come back from another process, which may still have its
	// descriptor, without using it. So its end is the socket's shutdown.
	Shared bool `json:"-"`
}

// Movable reports whether Move may take the connection out of this process now: it is an open
// WebSocket, whose input waits for nothing that happens here, or an open stream.
func Movable(c *Conn) bool {
	const not = flagReserve | flagEnded | flagFault
	return c.state == stateOpen && c.flags&not == 0 && c.flags&(flagOpened|flagStream) != 0 &&
		c.paused&^(pauseRate|pauseQuota) == 0 && c.gc != nil && c.tls().movable()
}

// Move takes a connection that is Movable out of this process: it returns a duplicate of its
// descriptor, which the caller owns, and what another process needs beside it. This process does
// not read or write it any more. Handler.Closed follows.
func Move(c *Conn) (fd int, s WebSocket, err error) {
	if fd, err = dup(int(c.fd)); err != nil {
		return -1, s, err
	}
	l := c.loop
	c.ws().active(l.now)
	s = WebSocket{
		Stream: c.flags&flagStream != 0, Deflate: c.parser.Deflates(), Named: c.Named(), Counted: c.standing&counted != 0, Exempt: c.standing&exempt != 0,
		Pinged: c.flags&flagPinged != 0, Lagging: c.Lagging(), Messages: uint32(c.messages), Bytes: uint32(c.meter.bytes),
	}
	if c.flags&flagProxied != 0 {
		s.Client = c.RemoteAddrPort()
	}
	s.In = append(c.parser.AppendOpen(s.In), c.in.bytes()...)
	if c.queued > 0 {
		s.Out = append(s.Out, c.first...)
		if c.more != nil {
			for _, b := range c.more.bufs[c.more.head:] {
				s.Out = append(s.Out, b...)
			}
		}
		c.dropOutbox()
	}
	c.tls().export(&s)
	l.engine.metrics.Departed.Add(1)
	c.to(stateHandover)
	c.standing |= moved
	c.scheduleClose() // of our descriptor
	return fd, s, nil
}

// Progress is how far a socket has got. No use of it leaves it as it is.
type Progress struct {
	written, read uint64
	known         bool
}

// ProgressOf returns how far a socket has got.
func ProgressOf(fd int) (p Progress) {
	p.written, p.read, p.known = progress(fd)
	return p
}

// Untouched reports whether nobody has used the socket since.
func (p Progress) Untouched(fd int) bool { return p.known && ProgressOf(fd) == p }

// movedOn reports whether another process goes on with the connection.
func (s *standing) movedOn() bool { return *s&moved != 0 }

// Join goes on with a WebSocket or stream from another process, on the given loop. It owns the
// descriptor, and returns when the loop has called open, or with the reason why it will not. open
// sets Conn.Session; Handler.Open is not called. The keys in s are wiped.
func Join(e *Engine, loop, fd int, s *WebSocket, open func(c *Conn)) error {
	raw, err := fdConn(fd)
	if err != nil {
		return err
	}
	if loop < 0 || loop >= len(e.loops) {
		_ = raw.Close()
		return errors.New("netpoll: there is no such loop")
	}
	link, err := importTLS(e, s)
	s.Keys.Wipe()
	if err != nil {
		_ = raw.Close()
		return err
	}
	return e.register(raw, &adopted{client: s.Client, arrived: true, socket: s, link: link, open: open}, e.loops[loop])
}

// join goes on with a WebSocket or stream that another process has accepted.
func (a *acceptor) join(c *Conn, from *adopted) {
	l := a.loop
	m := l.engine.metrics
	s := from.socket
	m.Arrived.Add(1)
	if s.Counted {
		a.returnAddress(c, ratelimit.KeyOf(c.RemoteAddrPort().Addr()))
	}
	if s.Shared {
		c.standing |= shared
	}
	c.SetExempt(s.Exempt)
	c.SetNamed(s.Named)
	c.http().hold()
	c.to(stateOpen)
	if s.Stream {
		m.OpenStreams.Add(1)
		c.flags |= flagStream
		c.http().expectReader()
	} else {
		m.Open.Add(1)
		c.flags |= flagOpened
	}
	if s.Deflate {
		c.parser.EnableDeflate()
	}
	c.activeAt = l.now - max(s.Idle, 0)
	c.messages, c.meter.bytes = bucket(s.Messages), bucket(s.Bytes)
	if from.link != nil {
		c.tls().joinTLS(from.link, s.TLS)
	}
	if len(s.Out) > 0 {
		c.push(s.Out)
	}
	switch owes := len(s.Out) > 0 || s.TLS != nil && len(s.TLS.Out) > 0; {
	case owes && s.Lagging:
		c.lag(false)
	case owes:
		c.markDirty()
	}
	switch {
	case s.Stream:
	case s.Pinged:
		c.flags |= flagPinged
		l.wheel.Expect(&c.timer, l.now+l.opts.Limits.PongTimeout, c)
	default:
		c.ws().schedulePing()
	}
	l.iter.conn = c
	from.open(c)
	c.ws().spend(0, 0) // it may have used up its rate
	if len(s.In) > 0 && c.state == stateOpen {
		c.take(s.In)
	}
	if s.TLS != nil && len(s.TLS.In) > 0 && c.link() != nil && c.state < stateLinger {
		c.tls().unseal(s.TLS.In)
	}
}
