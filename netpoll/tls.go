package netpoll

import (
	"io"

	"golang.org/x/sys/unix"

	"sluice/internal/owner"
	"sluice/netpoll/tlsrecord"
)

// TLS is crypto/tls over an in-memory connection. A worker does the handshake (tls_handshake.go);
// from then on the loop opens and seals records without waiting. Those of TLS 1.3 it takes out of
// crypto/tls (tls_rest.go); for older versions crypto/tls gets a record once it is complete, and
// what it seals is collected and written. The plaintext takes the path of a connection without TLS:
// Conn.take on input, the outbox on output. An idle connection has no goroutine and no buffer
// (tls_buffers.go).
//
// The outbox holds plaintext, in shared slices. A flush joins the slices, seals them in as few
// records as possible and writes these in one call. Sealed bytes that the socket did not take stay
// in tlsLink.out, and their plaintext stays in the outbox until they are written: so Queued,
// Lagging and Limits.OutboxBytes have the same meaning as without TLS. Nothing else is sealed
// before that.

const (
	sealMost    = 4 * tlsrecord.MaxPlaintext     // plaintext sealed for one write
	sealLagging = tlsrecord.MaxPlaintext         // the same, for a slow consumer
	sealedMost  = sealMost + 64<<10              // bytes of tlsLink.out; more means that a peer causes replies (alerts, key updates) and does not read
	rawRoom     = tlsrecord.MaxPayload + 3*0x200 // capacity of crypto/tls's input buffer with which it never allocates a larger one
)

// tlsConn is the role of a connection with TLS: its handshake and its records.
type tlsConn struct{ *Conn }

// tlsLoop is what a loop needs for TLS. Owned by the loop, but for the mailbox.
type tlsLoop struct {
	mail  *owner.Mailbox[handshakeEvent] // from handshake workers
	links []*tlsLink                     // by slot; nil: none
	resting

	src  []byte // the record that crypto/tls may read now
	rest []byte // the sealed input after it
	sink []byte // the output of crypto/tls since the latest collect

	// Scratch.
	plain []byte // an opened record, padding included
	join  []byte // slices of an outbox
	raw   []byte // lent to crypto/tls as its input buffer
}

func newTLSLoop(l *Loop) *tlsLoop {
	return &tlsLoop{
		mail:    owner.NewMailbox[handshakeEvent](l.Wake),
		resting: resting{loop: l},

		plain: make([]byte, tlsrecord.MaxPayload),
		join:  make([]byte, 0, sealMost),
		raw:   make([]byte, 0, rawRoom),
	}
}

// startTLS has the connection begin with a TLS handshake.
func (c tlsConn) startTLS() {
	l := c.loop
	m := l.engine.metrics
	m.TLSStarted.Add(1)
	m.TLSHandshaking.Add(1)
	c.to(stateTLS)
	c.setLink(&tlsLink{loop: l, handshaking: true})
	l.wheel.Expect(&c.timer, l.now+l.opts.Limits.HandshakeTimeout, c.Conn)
}

// link returns the connection's TLS, nil if there is none. It is in a table by slot, so that
// connections without TLS need no memory for it.
func (c *Conn) link() *tlsLink {
	if c.flags&flagTLS == 0 {
		return nil
	}
	return c.loop.tls.links[c.slot]
}

// setLink makes t the connection's TLS; nil removes it.
func (c tlsConn) setLink(t *tlsLink) {
	s := c.loop.tls
	if n := int(c.slot) + 1; n > len(s.links) {
		s.links = append(s.links, make([]*tlsLink, n-len(s.links))...)
	}
	if was := s.links[c.slot]; was != nil {
		s.forget(was)
	}
	s.links[c.slot] = t
	if c.flags |= flagTLS; t == nil {
		c.flags &^= flagTLS
	}
}

// Secure reports whether the connection uses TLS. It is false once the connection has closed.
func (c *Conn) Secure() bool { return c.link() != nil }

// receiveTLS handles sealed bytes; b is valid during the call.
func (c tlsConn) receiveTLS(b []byte) {
	switch {
	case c.state == stateTLS:
		c.handshakeInput(b)
	case c.state < stateLinger && c.flags&flagEnded == 0:
		c.unseal(b)
	}
}

// unseal opens the complete records and buffers the beginning of another.
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

// openRecord opens the record in tlsLoop.src and handles its plaintext; with more set, also what
// crypto/tls has buffered of earlier records. False means that the connection needs no further
// input.
func (c tlsConn) openRecord(more bool) bool {
	t, s := c.link(), c.loop.tls
	if t.records != nil {
		return c.openOwn()
	}
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
				dropBuffers(t.conn) // of a handshake message after the handshake
			}
			return true
		}
		if err != nil {
			c.recordsEnded(err)
			return false
		}
		if !more && n < len(s.plain) && len(s.src) == 0 {
			return true // that was the whole record
		}
	}
}

// recordsEnded handles the end of the records: the peer has sent close_notify (io.EOF), or an
// invalid record.
func (c tlsConn) recordsEnded(err error) {
	if err != io.EOF {
		c.loop.engine.metrics.TLSBroken.Add(1)
		Because(c.Conn, CauseTLS)
	} else if c.ending().endInput() {
		return
	}
	c.scheduleClose()
}

// collect queues what crypto/tls has written by itself, such as an alert or the response to a key
// update, after the sealed output.
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

// seal seals the oldest part of the outbox into tlsLoop.sink and returns its length.
func (c tlsConn) seal() (int, error) {
	t, s := c.link(), c.loop.tls
	most := sealMost
	if c.Lagging() {
		most = sealLagging
	}
	data := c.oldest(most)
	if t.records != nil {
		s.sink = t.records.Seal(s.sink, data)
		s.note(t)
		return len(data), nil
	}
	_, err := t.conn.Write(data)
	return len(data), err
}

// oldest returns what is next in the outbox, most bytes of it at most. It is valid until the outbox
// changes, or the next call.
func (c tlsConn) oldest(most int) []byte {
	s := c.loop.tls
	data := c.first
	if len(data) < most && len(data) < int(c.queued) {
		data = append(s.join[:0], data...)
		for _, b := range c.more.bufs[c.more.head:] {
			if data = append(data, b[:min(len(b), most-len(data))]...); len(data) == most {
				break
			}
		}
	}
	return data[:min(len(data), most)]
}

// flushTLS writes the outbox of a connection with TLS.
func (c tlsConn) flushTLS() {
	t, s := c.link(), c.loop.tls
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
		s.sink = s.sink[:0] // out is valid until more is sealed
		if !c.sentSealed(out, n, err) {
			return
		}
	}
}

// sentSealed notes that the socket took the first n bytes of out, or err. out is all that is
// sealed, tlsLink.plain bytes of the outbox among it. It reports whether the socket may take more.
func (c tlsConn) sentSealed(out []byte, n int, err error) bool {
	l, t := c.loop, c.link()
	if err != nil && err != unix.EAGAIN {
		c.ending().tear()
		return false
	}
	n = max(n, 0)
	if n > 0 && c.Lagging() {
		c.ws().noteAlive()
	}
	l.stats.out += uint64(n)
	if n < len(out) {
		t.out.keep(out[n:])
		l.stats.writes++
		c.lag(n > 0)
		return false
	}
	t.out.drop()
	plain := int(t.plain)
	t.plain = 0
	l.stats.out -= uint64(plain) // dequeue counts it
	c.dequeue(plain, false)
	return true
}

// flushCloseNotify has close_notify sent after all that was sealed. It reports whether that was
// written, or cannot be.
func (c tlsConn) flushCloseNotify() bool {
	t := c.link()
	if !t.done() || t.out.empty() && t.closeNotify {
		return true
	}
	if !t.closeNotify {
		t.closeWrite()
		c.collect()
	}
	return false
}

// sendCloseNotify is called just before the socket is closed. It tries once to write what is
// sealed, and close_notify.
func (c tlsConn) sendCloseNotify() {
	t, s := c.link(), c.loop.tls
	if t.out.empty() && t.done() && !t.closeNotify {
		t.closeWrite()
		t.out.add(s.sink)
		s.sink = s.sink[:0]
	}
	if !t.out.empty() {
		_, _ = write(int(c.fd), t.out.bytes())
	}
}

// dropTLS releases the connection's TLS.
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
	if t.records != nil {
		t.records.Wipe()
		t.records = nil
	}
}
