//go:build go1.26 && !go1.27

package tlskeys

import (
	"bytes"
	"crypto/cipher"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"sync/atomic"
	"unsafe"
)

// This file is written for crypto/tls of Go 1.26. For another version read there what Conn and
// halfConn have, and what Conn.Read and Conn.Write need of it, then change the first line.

// layout has the offsets of fields in a tls.Conn, and in its two halfConns.
type layout struct {
	complete, vers, haveVers, handshakes, suite uintptr
	in, out                                     uintptr
	raw, hand, input, sending                   uintptr

	halfErr, halfVersion, halfCipher, halfSeq, halfSecret uintptr

	cipher     reflect.Type // of what halfConn.cipher points to
	mask, aead uintptr      // in that
}

// fields finds fields; missing are those that are not there, or have another type.
type fields struct{ missing []string }

func (f *fields) find(in reflect.Type, name string, want reflect.Type) uintptr {
	field, ok := in.FieldByName(name)
	if !ok || field.Type != want {
		f.missing = append(f.missing, name)
	}
	return field.Offset
}

// read finds the fields of crypto/tls.
func (l *layout) read() error {
	conn := reflect.TypeFor[tls.Conn]()
	in, ok := conn.FieldByName("in")
	if !ok || in.Type.Kind() != reflect.Struct {
		return errors.New("tls.Conn has no field in")
	}
	var f fields
	*l = layout{
		complete:   f.find(conn, "isHandshakeComplete", reflect.TypeFor[atomic.Bool]()),
		vers:       f.find(conn, "vers", reflect.TypeFor[uint16]()),
		haveVers:   f.find(conn, "haveVers", reflect.TypeFor[bool]()),
		handshakes: f.find(conn, "handshakes", reflect.TypeFor[int]()),
		suite:      f.find(conn, "cipherSuite", reflect.TypeFor[uint16]()),
		in:         in.Offset,
		out:        f.find(conn, "out", in.Type),
		raw:        f.find(conn, "rawInput", reflect.TypeFor[bytes.Buffer]()),
		hand:       f.find(conn, "hand", reflect.TypeFor[bytes.Buffer]()),
		input:      f.find(conn, "input", reflect.TypeFor[bytes.Reader]()),
		sending:    f.find(conn, "sendBuf", reflect.TypeFor[[]byte]()),

		halfErr:     f.find(in.Type, "err", reflect.TypeFor[error]()),
		halfVersion: f.find(in.Type, "version", reflect.TypeFor[uint16]()),
		halfCipher:  f.find(in.Type, "cipher", reflect.TypeFor[any]()),
		halfSeq:     f.find(in.Type, "seq", reflect.TypeFor[[8]byte]()),
		halfSecret:  f.find(in.Type, "trafficSecret", reflect.TypeFor[[]byte]()),
	}
	if len(f.missing) > 0 {
		return fmt.Errorf("crypto/tls has other fields: %q", f.missing)
	}
	made, err := l.sample()
	if err != nil {
		return err
	}
	if made == nil || made.Kind() != reflect.Pointer || made.Elem().Kind() != reflect.Struct || made.Elem().NumField() != 2 {
		return fmt.Errorf("crypto/tls has another cipher: %v", made)
	}
	l.cipher = made.Elem()
	l.mask = f.find(l.cipher, "nonceMask", reflect.TypeFor[[ivLen]byte]())
	l.aead = f.find(l.cipher, "aead", reflect.TypeFor[cipher.AEAD]())
	if len(f.missing) > 0 {
		return fmt.Errorf("crypto/tls has another cipher: %v", made)
	}
	return nil
}

func at[T any](c *tls.Conn, offset uintptr) *T { return (*T)(unsafe.Add(unsafe.Pointer(c), offset)) }

// sample returns the type of a cipher that crypto/tls has made: a connection that has none yet
// makes both when it gets a key update.
func (l *layout) sample() (reflect.Type, error) {
	s := &suites[0]
	w := &wire{in: []byte{typeHandshake, 3, 3, 0, 5, 24, 0, 0, 1, 1}}
	c := tls.Server(w, &tls.Config{})
	l.begin(c, s.id)
	for _, half := range [...]uintptr{l.in, l.out} {
		*at[uint16](c, half+l.halfVersion) = tls.VersionTLS13
		*at[[]byte](c, half+l.halfSecret) = make([]byte, s.secret)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, errNoInput) {
		return nil, fmt.Errorf("crypto/tls takes no key update: %v", err)
	}
	return reflect.TypeOf(*at[any](c, l.in+l.halfCipher)), nil
}

// begin has c be as after a handshake, but for its keys.
func (l *layout) begin(c *tls.Conn, suite uint16) {
	at[atomic.Bool](c, l.complete).Store(true)
	*at[uint16](c, l.vers) = tls.VersionTLS13
	*at[bool](c, l.haveVers) = true
	*at[int](c, l.handshakes) = 1
	*at[uint16](c, l.suite) = suite
}

// set gives c the keys of a direction, which is at an offset. c keeps a copy of the secret.
func (l *layout) set(c *tls.Conn, half uintptr, s *suite, d *Direction) error {
	var h halfConn
	defer func() { h = halfConn{} }()
	if err := h.set(s, d.Secret, d.Seq); err != nil {
		return err
	}
	h.ready(s)
	made := reflect.New(l.cipher)
	p := made.UnsafePointer()
	*(*[ivLen]byte)(unsafe.Add(p, l.mask)) = h.mask
	*(*cipher.AEAD)(unsafe.Add(p, l.aead)) = h.aead
	*at[uint16](c, half+l.halfVersion) = tls.VersionTLS13
	*at[any](c, half+l.halfCipher) = made.Interface()
	*at[[]byte](c, half+l.halfSecret) = bytes.Clone(d.Secret)
	binary.BigEndian.PutUint64(at[[8]byte](c, half+l.halfSeq)[:], d.Seq)
	return nil
}

func (l *layout) get(c *tls.Conn, half uintptr) Direction {
	return Direction{bytes.Clone(*at[[]byte](c, half+l.halfSecret)), binary.BigEndian.Uint64(at[[8]byte](c, half+l.halfSeq)[:])}
}

func (l *layout) importKeys(under net.Conn, config *tls.Config, k *Keys) (*tls.Conn, error) {
	s, err := k.check()
	if err != nil {
		return nil, err
	}
	c := tls.Server(under, config)
	l.begin(c, k.Suite)
	if err := l.set(c, l.in, s, &k.In); err != nil {
		return nil, err
	}
	if err := l.set(c, l.out, s, &k.Out); err != nil {
		return nil, err
	}
	if len(k.Hand) > 0 {
		at[bytes.Buffer](c, l.hand).Write(k.Hand)
	}
	return c, nil
}

// end has c have read the peer's close_notify.
func (l *layout) end(c *tls.Conn) { *at[error](c, l.in+l.halfErr) = io.EOF }

// can reports whether a connection can go to another process, now or ever.
func (l *layout) can(c *tls.Conn) (now, ever bool) {
	ever = at[atomic.Bool](c, l.complete).Load() && *at[uint16](c, l.vers) == tls.VersionTLS13 && suiteOf(*at[uint16](c, l.suite)) != nil &&
		*at[error](c, l.in+l.halfErr) == nil && *at[error](c, l.out+l.halfErr) == nil
	return ever && at[bytes.Reader](c, l.input).Len() == 0 && len(*at[[]byte](c, l.sending)) == 0 && at[bytes.Buffer](c, l.hand).Len() <= maxHand, ever
}

func (l *layout) exportKeys(c *tls.Conn) (k Keys, raw []byte) {
	k = Keys{Suite: *at[uint16](c, l.suite), In: l.get(c, l.in), Out: l.get(c, l.out)}
	k.Hand = bytes.Clone(at[bytes.Buffer](c, l.hand).Bytes())
	raw = bytes.Clone(at[bytes.Buffer](c, l.raw).Bytes())
	for _, half := range [...]uintptr{l.in, l.out} {
		clear(*at[[]byte](c, half+l.halfSecret))
		*at[any](c, half+l.halfCipher) = nil
		*at[error](c, half+l.halfErr) = net.ErrClosed
	}
	return k, raw
}
