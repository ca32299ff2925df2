package netpoll

import (
	"bytes"
	"crypto/tls"
	"net"
	"sync"
	"time"

	"sluice/pool"
)

// protoH2 is HTTP/2's name in ALPN (RFC 9113 §3.1). net/http speaks it, the loops do not.
const protoH2 = "h2"

// handedTLS is a connection with TLS at net/http, which sets Request.TLS from its ConnectionState.
type handedTLS struct {
	handed // of the plaintext
	link   *tlsLink
}

// ConnectionState returns the result of the handshake.
func (h *handedTLS) ConnectionState() tls.ConnectionState { return h.link.conn.ConnectionState() }

// handoverTLS gives the connection to net/http, with the unhandled plaintext pre and a duplicate of
// its socket.
func (c tlsConn) handoverTLS(fd int, pre []byte) {
	t, s := c.link(), c.loop.tls
	a := &tlsSocket{pre: bytes.Clone(s.rest), client: c.http().handedAddr(), key: c.ending().takeKey()}
	out := t.out.detach()
	t.loop = nil
	c.setLink(nil)
	t.in.drop() // its unread rest was copied to a.pre
	go c.loop.engine.serveTLS(fd, t, a, out, bytes.Clone(pre))
}

// serveTLS gives a TLS connection to net/http. It owns the descriptor and the connection.
func (e *Engine) serveTLS(fd int, t *tlsLink, a *tlsSocket, out *pool.Buffer, pre []byte) {
	raw, err := clientConn(fd)
	if err == nil {
		err = t.returnRecords(e)
	}
	if err != nil {
		if raw != nil {
			_ = raw.Close()
		}
		e.uncount(a.key)
		lostOnTheWay(e, a.client, err)
		return
	}
	a.Conn = raw
	t.socket = a
	if out != nil { // for example the end of the handshake
		_ = raw.SetWriteDeadline(time.Now().Add(e.limits.Load().HandshakeTimeout))
		_, _ = raw.Write(out.B) // the next write will fail, too
		_ = raw.SetWriteDeadline(time.Time{})
		out.Put()
	}
	if pre == nil {
		// Nothing has been read, so it can be a *tls.Conn, which net/http needs for HTTP/2.
		a.onClose = sync.OnceFunc(func() { e.uncount(a.key) })
		e.giveHTTP(t.conn, func() {
			a.onClose()
			_ = raw.Close()
		})
		return
	}
	h := &handedTLS{handed{Conn: t.conn, engine: e, client: a.client, key: a.key, pre: pre}, t}
	e.atHTTP.add(&h.handed, h)
	e.giveHTTP(h, func() { _ = h.cut() })
}

// detach separates h from net/http for Adopt, and moves its state to a. It returns the socket.
func (h *handedTLS) detach(a *adopted) net.Conn {
	h.release()
	socket := h.link.socket
	h.link.socket = nil
	a.head = h.unread(a.head)
	a.client, a.key, a.link, a.sealed = socket.client, socket.key, h.link, socket.pre
	return socket.Conn
}

// adoptTLS continues with a connection that net/http had.
func (c tlsConn) adoptTLS(a *adopted) {
	l := c.loop
	a.link.loop = l
	c.setLink(a.link)
	l.tls.src, l.tls.rest = nil, a.sealed
	c.take(a.head)
	// crypto/tls may have buffered records, or parts of one.
	if c.link() == nil || c.state >= stateLinger || !c.openRecord(true) {
		return
	}
	c.takeRecords()
	c.unseal(a.sealed)
}
