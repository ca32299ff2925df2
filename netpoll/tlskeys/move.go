package tlskeys

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"sluice/netpoll/tlsrecord"
)

// Check returns why connections cannot leave crypto/tls, or come back; nil: they can. The first
// call tries it.
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

// Can reports whether a connection can leave crypto/tls: ever, which its version and suite say, and
// now. No other goroutine may use it meanwhile.
func Can(c *tls.Conn) (now, ever bool) {
	if Check() != nil {
		return false, false
	}
	return tls13.can(c)
}

// Export takes the keys out of a connection that can go now: c cannot be used any more, and has no
// secret. raw is what c had read of a record.
func Export(c *tls.Conn) (k Keys, raw []byte) { return tls13.exportKeys(c) }

// Import goes on with a client's connection in crypto/tls. It reads and writes the rest of the
// stream, from a record's beginning on. k stays the caller's.
func Import(under net.Conn, config *tls.Config, k *Keys) (*tls.Conn, error) {
	if err := Check(); err != nil {
		return nil, err
	}
	return tls13.importKeys(under, config, k)
}

// Types of records and of a handshake message (RFC 8446 §5.1 and §4).
const (
	typeAlert       = 21
	typeHandshake   = 22
	typeApplication = 23
	typeKeyUpdate   = 24
)

// try goes on with a made-up connection, updates its keys and exports it again. The client's side
// is a Records.
func try(s *suite) error {
	k := Keys{Suite: s.id, In: Direction{bytes.Repeat([]byte{1}, s.secret), 1<<32 + 5}, Out: Direction{bytes.Repeat([]byte{2}, s.secret), 7}}
	client, err := NewRecords(&Keys{Suite: s.id, In: k.Out, Out: k.In})
	if err != nil {
		return err
	}
	k.Hand = keyUpdate[:2]
	w := new(wire)
	c, err := tls13.importKeys(w, &tls.Config{}, &k)
	if err != nil {
		return err
	}
	w.in = client.out.seal(s, nil, typeHandshake, append(keyUpdate[2:], 1)...)
	client.out.update(s)
	w.in = client.Seal(w.in, []byte("ab"))
	last := client.Seal(nil, []byte("c"))
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
	for _, want := range [...]string{"before", "", "after"} {
		n := len(w.out)
		if n >= tlsrecord.HeaderLen {
			n = min(n, tlsrecord.HeaderLen+int(binary.BigEndian.Uint16(w.out[3:])))
		}
		got, _, err := client.Open(nil, w.out[:n], nil)
		if err != nil || string(got) != want {
			return fmt.Errorf("output is not sealed: %v", err)
		}
		w.out = w.out[n:]
	}
	if now, _ := tls13.can(c); !now {
		return errors.New("it is not at rest")
	}
	k, raw := tls13.exportKeys(c)
	want := client.Keys()
	want.In, want.Out = want.Out, want.In
	want.In.Seq-- // of last
	if !bytes.Equal(k.Append(nil), want.Append(nil)) || k.In.Seq != 1 || !bytes.Equal(raw, last[:9]) {
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
