package netpoll

import (
	"bytes"
	"crypto/tls"
	"net"
	"sync"
	"time"

	"sluice/pool"
)

// protoH2 is HTTP/2's name in ALPN (RFC 9113 §3.1). The loops do not speak it.
const protoH2 = "h2"

// handedTLS is a connection inside TLS given to net/http. Its ConnectionState is what makes
// net/http set Request.TLS.
type handedTLS struct {
	handed // of the plaintext
	link   *tlsLink
}

// ConnectionState tells what the handshake agreed on.
func (h *handedTLS) ConnectionState() tls.ConnectionState { return h.link.conn.ConnectionState() }

// handoverTLS gives the connection inside TLS to net/http, with the plaintext pre that is not done
// with, and with a duplicate of its socket.
func (c tlsConn) handoverTLS(fd int, pre []byte) {
	t, s := c.link(), c.loop.tls
	a := &tlsSocket{pre: bytes.Clone(s.rest), client: c.http().handedAddr()}
	out := t.out.detach()
	t.loop = nil
	c.setLink(nil)
	t.in.drop() // it has been copied, if anything was left of it
	go c.loop.engine.serveTLS(fd, t, a, out, bytes.Clone(pre))
}

// serveTLS passes a descriptor and a TLS connection on, both of which it takes over.
func (e *Engine) serveTLS(fd int, t *tlsLink, a *tlsSocket, out *pool.Buffer, pre []byte) {
	raw, err := clientConn(fd)
	if err != nil {
		e.metrics.OpenAll.Add(-1)
		e.log.Warn("a connection was lost on its way to the HTTP server", "error", err)
		return
	}
	a.Conn = raw
	t.socket = a
	if out != nil { // the end of the handshake, say
		_ = raw.SetWriteDeadline(time.Now().Add(e.opts.Limits.HandshakeTimeout))
		_, _ = raw.Write(out.B) // an error will come again
		_ = raw.SetWriteDeadline(time.Time{})
		out.Put()
	}
	if pre == nil {
		// Nothing has been read: it can go as what net/http knows best, and must, for HTTP/2.
		a.onClose = sync.OnceFunc(func() { e.metrics.OpenAll.Add(-1) })
		e.giveHTTP(t.conn, func() {
			a.onClose()
			_ = raw.Close()
		})
		return
	}
	h := &handedTLS{handed{Conn: t.conn, engine: e, client: a.client, pre: pre}, t}
	e.giveHTTP(h, func() { _ = h.cut() })
}

// detach parts h from net/http for Adopt, and notes in a how to go on. It returns the socket.
func (h *handedTLS) detach(a *adopted) net.Conn {
	h.release()
	way := h.link.socket
	h.link.socket = nil
	a.head = h.unread(a.head)
	a.client, a.link, a.sealed = way.client, h.link, way.pre
	return way.Conn
}

// adoptTLS goes on where net/http left off.
func (c tlsConn) adoptTLS(a *adopted) {
	l := c.loop
	a.link.loop = l
	c.setLink(a.link)
	l.tls.src, l.tls.rest = nil, a.sealed
	c.take(a.head)
	// Records, and parts of them, may be left inside crypto/tls.
	if c.link() != nil && c.state < stateLinger && c.openRecord(true) && len(a.sealed) > 0 {
		c.unseal(a.sealed)
	}
}
