package netpoll

import (
	"bytes"
	"errors"

	"sluice/netpoll/tlskeys"
)

// Sealed is the TLS of a connection that another process is to go on with, but for its keys, which
// are apart (WebSocket.Keys): this may be logged, they must not.
type Sealed struct {
	In, Out []byte // input that was not opened, from a record's beginning on, and output that was not written
	Plain   int    // bytes of WebSocket.Out that are sealed in Out
}

// MovesTLS returns why connections with TLS cannot go to another process, or come from one; nil:
// those with TLS 1.3 can.
func MovesTLS() error { return tlskeys.Check() }

// Stays reports whether a connection can never go to another process, because of its version of
// TLS.
func Stays(c *Conn) bool {
	t := c.link()
	if t == nil || t.conn == nil { // its records can always go
		return false
	}
	_, ever := tlskeys.Can(t.conn)
	return !ever
}

// movable is Movable for the TLS of a connection.
func (c tlsConn) movable() bool {
	t := c.link()
	if t == nil {
		return true
	}
	if !t.done() || t.closeNotify {
		return false
	}
	if t.records != nil {
		return true
	}
	now, _ := tlskeys.Can(t.conn)
	return now
}

// export takes the TLS out of a connection that is movable: nothing is sealed here any more, also
// no close_notify.
func (c tlsConn) export(s *WebSocket) {
	t := c.link()
	if t == nil {
		return
	}
	sealed := &Sealed{Out: bytes.Clone(t.out.bytes()), Plain: int(t.plain)}
	if t.records != nil {
		s.Keys = t.records.Keys()
		t.records.Wipe()
	} else {
		s.Keys, sealed.In = tlskeys.Export(t.conn)
	}
	sealed.In = append(sealed.In, t.in.bytes()...)
	s.TLS = sealed
	t.in.drop()
	t.out.drop()
	c.setLink(nil)
}

var errSealed = errors.New("netpoll: the description of a connection with TLS contradicts itself")

// importTLS makes the TLS of a connection that comes from another process; nil: it has none.
func importTLS(e *Engine, s *WebSocket) (*tlsLink, error) {
	switch {
	case (s.TLS != nil) != (e.handshakes != nil):
		return nil, errors.New("netpoll: of the two processes one has clients use TLS, and the other not")
	case s.TLS == nil:
		return nil, nil
	case s.TLS.Plain < 0 || s.TLS.Plain > len(s.Out) || s.TLS.Plain > 0 && len(s.TLS.Out) == 0 || s.TLS.Plain > sealMost:
		return nil, errSealed
	}
	t := new(tlsLink)
	var err error
	t.records, err = tlskeys.NewRecords(&s.Keys)
	return t, err
}

// joinTLS gives a connection from another process its TLS.
func (c tlsConn) joinTLS(t *tlsLink, s *Sealed) {
	t.loop = c.loop
	c.setLink(t)
	t.out.add(s.Out)
	t.plain = int32(s.Plain)
}
