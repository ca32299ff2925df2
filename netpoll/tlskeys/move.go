package tlskeys

import (
	"bytes"
	"crypto/cipher"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Check returns why connections cannot go to another process, or come from one; nil: they can. The
// first call tries it.
var Check = sync.OnceValue(func() error {
	if err := tls13.read(); err != nil {
		return err
	}
	for i := range suites {
		if err := try(&suites[i]); err != nil {
			return fmt.Errorf("crypto/tls does not go on with %s: %w", tls.CipherSuiteName(suites[i].id), err)
		}
	}
	return nil
})

// tls13 is the layout of crypto/tls. It is fixed after Check.
var tls13 layout

// Can reports whether a connection can go to another process: ever, which its version and suite
// say, and now. Nobody else may use it meanwhile.
func Can(c *tls.Conn) (now, ever bool) {
	if Check() != nil {
		return false, false
	}
	return tls13.can(c)
}

// Export takes the keys out of a connection that can go now: c cannot be used any more, and has no
// secret. raw is what c had read of a record.
func Export(c *tls.Conn) (k Keys, raw []byte) { return tls13.exportKeys(c) }

// Import goes on with a client's connection, which the caller has exported in another process. It
// reads and writes the rest of the stream, from a record's beginning on. k stays the caller's.
func Import(under net.Conn, config *tls.Config, k *Keys) (*tls.Conn, error) {
	if err := Check(); err != nil {
		return nil, err
	}
	return tls13.importKeys(under, config, k)
}

// Types of records and of a handshake message (RFC 8446 §5.1 and §4).
const (
	typeHandshake   = 22
	typeApplication = 23
	typeKeyUpdate   = 24
)

// peer is the client's side of a connection in one direction, as Check needs it.
type peer struct {
	suite  *suite
	secret []byte
	aead   cipher.AEAD
	mask   [ivLen]byte
	seq    uint64
}

func newPeer(s *suite, d Direction) (p *peer, err error) {
	p = &peer{suite: s, secret: d.Secret, seq: d.Seq}
	p.aead, p.mask, err = s.cipher(d.Secret)
	return p, err
}

// next returns the direction after a key update.
func (p *peer) next() (*peer, error) {
	secret, err := p.suite.expand(p.secret, "traffic upd", p.suite.secret)
	if err != nil {
		return nil, err
	}
	return newPeer(p.suite, Direction{Secret: secret})
}

func (p *peer) nonce() []byte {
	n := p.mask
	for i, b := range binary.BigEndian.AppendUint64(nil, p.seq) {
		n[4+i] ^= b
	}
	p.seq++
	return n[:]
}

// seal returns a record.
func (p *peer) seal(kind byte, content ...byte) []byte {
	plain := append(bytes.Clone(content), kind)
	head := []byte{typeApplication, 3, 3, 0, 0}
	binary.BigEndian.PutUint16(head[3:], uint16(len(plain)+p.aead.Overhead()))
	return p.aead.Seal(head, p.nonce(), plain, head)
}

// open returns the first record of b, with its type behind it, and what follows.
func (p *peer) open(b []byte) (content, rest []byte, err error) {
	if len(b) < 5 || len(b) < 5+int(binary.BigEndian.Uint16(b[3:])) {
		return nil, nil, errors.New("a record is missing")
	}
	n := 5 + int(binary.BigEndian.Uint16(b[3:]))
	content, err = p.aead.Open(nil, p.nonce(), b[5:n], b[:5])
	return content, b[n:], err
}

// try goes on with a made-up connection, updates its keys and exports it again.
func try(s *suite) error {
	k := Keys{Suite: s.id, In: Direction{bytes.Repeat([]byte{1}, s.secret), 1<<32 + 5}, Out: Direction{bytes.Repeat([]byte{2}, s.secret), 7}}
	update := []byte{typeKeyUpdate, 0, 0, 1, 1}
	k.Hand = update[:2]
	w := new(wire)
	c, err := tls13.importKeys(w, &tls.Config{}, &k)
	if err != nil {
		return err
	}
	in, err := newPeer(s, k.In)
	if err != nil {
		return err
	}
	out, err := newPeer(s, k.Out)
	if err != nil {
		return err
	}
	newIn, err := in.next()
	if err != nil {
		return err
	}
	newOut, err := out.next()
	if err != nil {
		return err
	}
	w.in = append(in.seal(typeHandshake, update[2:]...), newIn.seal(typeApplication, 'a', 'b')...)
	last := newIn.seal(typeApplication, 'c')
	w.in = append(w.in, last[:9]...)
	if _, err := c.Write([]byte("before")); err != nil {
		return err
	}
	var b [8]byte
	if n, err := c.Read(b[:]); err != nil || string(b[:n]) != "ab" {
		return fmt.Errorf("input is not opened: %v", err)
	}
	if _, err := c.Read(b[:]); !errors.Is(err, errNoInput) {
		return fmt.Errorf("a part of a record is not kept: %v", err)
	}
	if _, err := c.Write([]byte("after")); err != nil {
		return err
	}
	for _, want := range [...]struct {
		p    *peer
		text string
	}{{out, "before\x17"}, {out, string([]byte{typeKeyUpdate, 0, 0, 1, 0, typeHandshake})}, {newOut, "after\x17"}} {
		got, rest, err := want.p.open(w.out)
		if err != nil || string(got) != want.text {
			return fmt.Errorf("output is not sealed: %v", err)
		}
		w.out = rest
	}
	if now, _ := tls13.can(c); !now {
		return errors.New("it is not at rest")
	}
	k, raw := tls13.exportKeys(c)
	if k.Suite != s.id || !bytes.Equal(k.In.Secret, newIn.secret) || !bytes.Equal(k.Out.Secret, newOut.secret) || k.In.Seq != 1 || k.Out.Seq != 1 || len(k.Hand) > 0 || !bytes.Equal(raw, last[:9]) {
		return errors.New("its state is somewhere else")
	}
	if c, err = tls13.importKeys(w, &tls.Config{}, &k); err != nil {
		return err
	}
	w.in = last
	if n, err := c.Read(b[:]); err != nil || string(b[:n]) != "c" {
		return fmt.Errorf("input is not opened: %v", err)
	}
	return nil
}

// wire is the net.Conn of a connection that is tried.
type wire struct {
	net.Conn // nil
	in, out  []byte
}

// errNoInput is temporary: crypto/tls can go on with the next Read.
var errNoInput error = noInput{}

type noInput struct{}

func (noInput) Error() string   { return "no input" }
func (noInput) Timeout() bool   { return true }
func (noInput) Temporary() bool { return true }

func (w *wire) Read(p []byte) (int, error) {
	if len(w.in) == 0 {
		return 0, errNoInput
	}
	n := copy(p, w.in)
	w.in = w.in[n:]
	return n, nil
}

func (w *wire) Write(p []byte) (int, error) {
	w.out = append(w.out, p...)
	return len(p), nil
}

// SetWriteDeadline implements net.Conn: crypto/tls sets one before it sends an alert.
func (w *wire) SetWriteDeadline(time.Time) error { return nil }
