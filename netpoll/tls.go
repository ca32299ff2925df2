package netpoll

import (
	"io"

	"golang.org/x/sys/unix"

	"sluice/internal/owner"
	"sluice/netpoll/tlsrecord"
)

// TLS is crypto/tls over an in-memory connection. A worker does the handshake (tls_handshake.go);
// from then on the loop opens and seals records without ever waiting: crypto/tls is given a record
// when all of it is there, and what it seals is collected and written like anything else. The
// plaintext goes the way that the bytes of a plain connection go: Conn.take behind it, the outbox
// before it. An idle connection has no goroutine and no buffer (tls_buffers.go).
//
// The outbox holds plaintext, in slices that are shared with others. A flush joins the slices,
// seals them in as few records as possible and writes those at once. Sealed bytes that the socket
// refuses stay in tlsLink.out, and what they stand for stays in the outbox until they have gone: so
// Queued, Lagging and Limits.OutboxBytes mean what they mean without TLS. Nothing else is sealed
// before they have gone.

const (
	sealMost    = 4 * tlsrecord.MaxPlaintext     // plaintext sealed for one write
	sealLagging = tlsrecord.MaxPlaintext         // the same, for a peer that is slow
	sealedMost  = sealMost + 64<<10              // sealed bytes that wait; beyond, the peer makes us answer and does not read
	rawRoom     = tlsrecord.MaxPayload + 3*0x200 // what crypto/tls wants of its input buffer, so that it never takes a larger one
)

// tlsConn is a connection inside TLS: its handshake and its records.
type tlsConn struct{ *Conn }

// tlsLoop is what a loop needs for TLS. Owned by the loop, but for the mailbox.
type tlsLoop struct {
	mail  *owner.Mailbox[handshakeEvent] // from handshake workers
	links []*tlsLink                     // by slot; nil: none

	src  []byte // the record that crypto/tls may read now
	rest []byte // what follows it
	sink []byte // what crypto/tls has written since the latest collect

	// Scratch.
	plain []byte // an opened record
	join  []byte // slices of an outbox
	raw   []byte // lent to crypto/tls as its input buffer
}

func newTLSLoop(l *Loop) *tlsLoop {
	return &tlsLoop{
		mail:  owner.NewMailbox[handshakeEvent](l.Wake),
		plain: make([]byte, tlsrecord.MaxPlaintext),
		join:  make([]byte, 0, sealMost),
		raw:   make([]byte, 0, rawRoom),
	}
}

// startTLS is called for a connection that is to begin with a TLS handshake.
func (c tlsConn) startTLS() {
	l := c.loop
	m := l.engine.metrics
	m.TLSStarted.Add(1)
	m.TLSHandshaking.Add(1)
	c.to(stateTLS)
	c.setLink(&tlsLink{loop: l, handshaking: true})
	l.wheel.Expect(&c.timer, l.now+l.opts.Limits.HandshakeTimeout, c.Conn)
}

// link returns the connection's TLS, nil if the peer speaks plaintext. It is kept beside the
// connections, by slot, so that they do not pay for it without TLS.
func (c *Conn) link() *tlsLink {
	if c.flags&flagTLS == 0 {
		return nil
	}
	return c.loop.tls.links[c.slot]
}

// setLink makes t the connection's TLS; nil: it has none any more.
func (c tlsConn) setLink(t *tlsLink) {
	s := c.loop.tls
	if n := int(c.slot) + 1; n > len(s.links) {
		s.links = append(s.links, make([]*tlsLink, n-len(s.links))...)
	}
	s.links[c.slot] = t
	if c.flags |= flagTLS; t == nil {
		c.flags &^= flagTLS
	}
}

// Secure reports whether the connection is inside TLS. It is false once the connection has closed.
func (c *Conn) Secure() bool { return c.link() != nil }

// receiveTLS takes sealed bytes; they are valid during the call.
func (c tlsConn) receiveTLS(b []byte) {
	switch {
	case c.state == stateTLS:
		c.handshakeInput(b)
	case c.state < stateLinger && c.flags&flagEnded == 0:
		c.unseal(b)
	}
}

// unseal opens the records that are complete and keeps the beginning of another.
func (c tlsConn) unseal(b []byte) {
	t, s := c.link(), c.loop.tls
	if !t.in.empty() {
		b = t.in.add(b)
	}
	rest := b
	for {
		n := t.pos.Whole(rest)
		if n == 0 {
			break
		}
		s.src, s.rest = rest[:n], rest[n:]
		rest = s.rest
		if !c.openRecord(false) {
			t.in.drop()
			return
		}
	}
	t.in.keep(rest)
}

// openRecord opens the record in tlsLoop.src and handles what is in it, or, with more, what
// crypto/tls has kept of earlier ones as well. False means that the input that follows is of no
// interest any more.
func (c tlsConn) openRecord(more bool) bool {
	t, s := c.link(), c.loop.tls
	for {
		lent := lendRaw(t.conn, s)
		n, err := t.conn.Read(s.plain)
		if lent {
			takeRaw(t.conn, s)
		}
		c.collect()
		if n > 0 {
			c.take(s.plain[:n])
			if c.link() != t || c.state >= stateLinger {
				return false
			}
		}
		if err == errWouldBlock {
			if n == 0 {
				dropBuffers(t.conn) // of a handshake message
			}
			return true
		}
		if err != nil {
			c.recordsEnded(err)
			return false
		}
		if !more && n < len(s.plain) && len(s.src) == 0 {
			return true // that was all of the record
		}
	}
}

// recordsEnded is called when there is nothing more to come: the peer said so (io.EOF), or what it
// sent is broken.
func (c tlsConn) recordsEnded(err error) {
	if err != io.EOF {
		c.loop.engine.metrics.TLSBroken.Add(1)
	} else if c.ending().endInput() {
		return
	}
	c.scheduleClose()
}

// collect puts what crypto/tls wrote by itself, an alert or the answer to a key update, behind what
// is sealed.
func (c tlsConn) collect() {
	t, s := c.link(), c.loop.tls
	if len(s.sink) == 0 {
		return
	}
	t.out.add(s.sink)
	s.sink = s.sink[:0]
	if len(t.out.bytes()) > sealedMost {
		c.scheduleClose()
		return
	}
	if !c.Lagging() {
		c.markDirty()
	}
}

// seal seals the oldest part of the outbox into tlsLoop.sink and returns how many bytes of it.
func (c tlsConn) seal() (int, error) {
	t, s := c.link(), c.loop.tls
	most := sealMost
	if c.Lagging() {
		most = sealLagging
	}
	data := c.first
	if len(data) < most && len(data) < int(c.queued) {
		data = append(s.join[:0], data...)
		for _, b := range c.more.bufs[c.more.head:] {
			if data = append(data, b[:min(len(b), most-len(data))]...); len(data) == most {
				break
			}
		}
	}
	data = data[:min(len(data), most)]
	_, err := t.conn.Write(data)
	return len(data), err
}

// flushTLS is flush for a connection inside TLS.
func (c tlsConn) flushTLS() {
	l := c.loop
	t, s := c.link(), l.tls
	for c.state < stateReap {
		if t.out.empty() {
			if c.queued == 0 {
				return
			}
			n, err := c.seal()
			if err != nil {
				s.sink = s.sink[:0]
				c.scheduleClose()
				return
			}
			t.plain = int32(n)
		}
		out := s.sink
		if !t.out.empty() {
			out = t.out.bytes()
		}
		n, err := write(int(c.fd), out)
		for err == unix.EINTR {
			n, err = write(int(c.fd), out)
		}
		if err != nil && err != unix.EAGAIN {
			s.sink = s.sink[:0]
			c.scheduleClose()
			return
		}
		n = max(n, 0)
		if n > 0 && c.Lagging() {
			c.ws().noteAlive()
		}
		l.stats.out += uint64(n)
		if n < len(out) {
			t.out.keep(out[n:])
			s.sink = s.sink[:0]
			l.stats.writes++
			c.lag(n > 0)
			return
		}
		t.out.drop()
		s.sink = s.sink[:0]
		plain := int(t.plain)
		t.plain = 0
		l.stats.out -= uint64(plain) // wrote counts it
		c.dequeue(plain, false)
	}
}

// flushCloseNotify has close_notify sent, behind all that was sealed. It returns true once that has
// gone, or cannot go.
func (c tlsConn) flushCloseNotify() bool {
	t := c.link()
	if t.conn == nil || t.out.empty() && t.closeNotify {
		return true
	}
	if !t.closeNotify {
		t.closeNotify = true
		_ = t.conn.CloseWrite() // it writes to the loop's scratch: that cannot fail
		c.collect()
	}
	return false
}

// sendCloseNotify is called just before the socket is closed. It has one attempt at what is sealed
// and at close_notify.
func (c tlsConn) sendCloseNotify() {
	t, s := c.link(), c.loop.tls
	if t.out.empty() && t.conn != nil && !t.closeNotify {
		t.closeNotify = true
		_ = t.conn.CloseWrite()
		t.out.add(s.sink)
		s.sink = s.sink[:0]
	}
	if !t.out.empty() {
		_, _ = write(int(c.fd), t.out.bytes())
	}
}

// dropTLS forgets the connection's TLS.
func (c tlsConn) dropTLS() {
	t := c.link()
	if t == nil {
		return
	}
	if t.handshaking {
		c.endHandshake(&c.loop.engine.metrics.TLSFailed)
	}
	t.in.drop()
	t.out.drop()
	c.setLink(nil)
}
