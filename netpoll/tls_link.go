package netpoll

import (
	"crypto/tls"
	"net"
	"net/netip"
	"time"

	"sluice/internal/ratelimit"
	"sluice/netpoll/tlskeys"
	"sluice/netpoll/tlsrecord"
)

// tlsLink is a connection's TLS, and the net.Conn that crypto/tls reads and writes. Its owner
// changes: a handshake worker, the loop, a goroutine of net/http, possibly the loop again. It is
// passed on by the loop's mailbox, the start of a goroutine, and gnet's registration.
type tlsLink struct {
	// Who has the records after the handshake. Both are nil before its end.
	records *tlskeys.Records // the loop: tls_rest.go
	conn    *tls.Conn        // crypto/tls: it is older than TLS 1.3, or at net/http, or Go's version is unknown

	// The other end of Read and Write: one of the three is not nil.
	loop   *Loop      // the loop; its scratch
	hs     *handshake // a handshake worker and its loop; loop is set, too
	socket *tlsSocket // net/http and its socket

	pos tlsrecord.Position // of the input that crypto/tls has read

	// Owned by the loop.
	closeNotify bool         // close_notify is sealed, or nothing may be any more
	handshaking bool         // the handshake is in progress or has yet to begin
	used        bool         // the ciphers of records were used since the latest pass: see tlsLoop.awake
	place       int32        // in tlsLoop.awake, from 1 on; 0: it is not there
	plain       int32        // bytes of the outbox that are sealed in out
	in          pendingBytes // an incomplete record
	out         pendingBytes // sealed, to be written before anything else
}

// tlsSocket is the socket below the TLS of a connection at net/http.
type tlsSocket struct {
	net.Conn
	pre     []byte         // sealed input that the loop has read
	client  netip.AddrPort // the client's address from a proxy; invalid: the peer is the client
	key     ratelimit.Key  // what it is counted with; 0: it is not
	onClose func()         // called once when it is closed; nil: the handedTLS counts its end
	torn    error          // of the write that failed; guarded by crypto/tls's lock of output
}

// Write implements net.Conn. Nothing follows a write that failed: it may have sent a part of a
// record, and crypto/tls would still send close_notify, which the client would take for its rest.
func (a *tlsSocket) Write(p []byte) (n int, err error) {
	if a.torn != nil {
		return 0, a.torn
	}
	n, a.torn = a.Conn.Write(p)
	return n, a.torn
}

// errWouldBlock is the error of a Read without input. It is temporary, so crypto/tls can continue
// with the next Read.
var errWouldBlock error = wouldBlock{}

type wouldBlock struct{}

func (wouldBlock) Error() string   { return "netpoll: no input yet" }
func (wouldBlock) Timeout() bool   { return true }
func (wouldBlock) Temporary() bool { return true }

// done reports whether the handshake is done.
func (t *tlsLink) done() bool { return t.records != nil || t.conn != nil }

// closeWrite seals close_notify into tlsLoop.sink.
func (t *tlsLink) closeWrite() {
	t.closeNotify = true
	if s := t.loop.tls; t.records != nil {
		s.sink = t.records.CloseNotify(s.sink)
	} else {
		_ = t.conn.CloseWrite() // the sink cannot fail
	}
}

// Read implements net.Conn for crypto/tls.
func (t *tlsLink) Read(p []byte) (n int, err error) {
	switch {
	case t.socket != nil:
		if a := t.socket; len(a.pre) > 0 {
			n = copy(p, a.pre)
			if a.pre = a.pre[n:]; len(a.pre) == 0 {
				a.pre = nil
			}
		} else {
			n, err = a.Read(p)
		}
	case t.hs != nil:
		// Not beyond a record's end: the loop handles the records after the handshake.
		n, err = t.hs.read(p[:min(len(p), t.pos.Next())])
	default:
		s := t.loop.tls
		if len(s.src) == 0 {
			return 0, errWouldBlock
		}
		n = copy(p, s.src)
		s.src = s.src[n:]
	}
	t.pos.Pass(p[:n])
	return n, err
}

// Write implements net.Conn for crypto/tls.
func (t *tlsLink) Write(p []byte) (int, error) {
	switch {
	case t.socket != nil:
		return t.socket.Write(p)
	case t.hs != nil:
		return t.hs.write(p)
	}
	s := t.loop.tls
	s.sink = append(s.sink, p...)
	return len(p), nil
}

// Close implements net.Conn.
func (t *tlsLink) Close() error {
	a := t.socket
	if a == nil {
		return nil // the loop closes its own sockets
	}
	if a.onClose != nil {
		a.onClose()
	}
	return a.Conn.Close()
}

// LocalAddr implements net.Conn.
func (t *tlsLink) LocalAddr() net.Addr {
	switch {
	case t.socket != nil:
		return t.socket.LocalAddr()
	case t.hs != nil:
		return t.hs.local
	}
	return t.loop.engine.Addr()
}

// RemoteAddr implements net.Conn.
func (t *tlsLink) RemoteAddr() net.Addr {
	switch {
	case t.socket == nil && t.hs != nil:
		return t.hs.remote
	case t.socket == nil:
		return nil
	case t.socket.client.IsValid():
		return net.TCPAddrFromAddrPort(t.socket.client)
	}
	return t.socket.Conn.RemoteAddr()
}

// SetDeadline implements net.Conn. On the loop no call waits.
func (t *tlsLink) SetDeadline(at time.Time) error {
	if t.socket != nil {
		return t.socket.Conn.SetDeadline(at)
	}
	return nil
}

// SetReadDeadline implements net.Conn.
func (t *tlsLink) SetReadDeadline(at time.Time) error {
	if t.socket != nil {
		return t.socket.Conn.SetReadDeadline(at)
	}
	return nil
}

// SetWriteDeadline implements net.Conn.
func (t *tlsLink) SetWriteDeadline(at time.Time) error {
	if t.socket != nil {
		return t.socket.Conn.SetWriteDeadline(at)
	}
	return nil
}
