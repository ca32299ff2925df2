package tlskeys

import (
	"bytes"
	"crypto/tls"
	"errors"
	"testing"
)

// This version of Go's crypto/tls is the one that reach.go is written for.
func TestCheck(t *testing.T) {
	if err := Check(); err != nil {
		t.Fatal(err)
	}
}

func keysOf(s *suite) Keys {
	return Keys{
		Suite: s.id, Hand: []byte{24, 0}, In: Direction{bytes.Repeat([]byte{1}, s.secret), 1 << 40}, Out: Direction{bytes.Repeat([]byte{2}, s.secret), 3},
	}
}

func TestKeysAreBytes(t *testing.T) {
	var all []byte
	for i := range suites {
		k := keysOf(&suites[i])
		before := len(all)
		if all = k.Append(all); len(all)-before > MaxLen {
			t.Error("more than MaxLen")
		}
		k.Wipe()
		if !bytes.Equal(k.In.Secret, make([]byte, len(k.In.Secret))) || !bytes.Equal(k.Out.Secret, make([]byte, len(k.Out.Secret))) {
			t.Error("secrets are left")
		}
	}
	rest := all
	for i := range suites {
		var k Keys
		var err error
		if k, rest, err = Parse(rest); err != nil {
			t.Fatal(err)
		}
		if want := keysOf(&suites[i]); k.Suite != want.Suite || !bytes.Equal(k.Append(nil), want.Append(nil)) {
			t.Errorf("got %v, want %v", k, want)
		}
	}
	if len(rest) > 0 {
		t.Errorf("%d bytes are left", len(rest))
	}
}

func TestKeysAreRefused(t *testing.T) {
	good := keysOf(&suites[1])
	unknown := good
	unknown.Suite = tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
	other := good
	other.Suite = suites[0].id
	long := good
	long.Hand = make([]byte, maxHand+1)
	for _, tc := range []struct {
		name string
		k    Keys
		want error
	}{{"unknown suite", unknown, errSuite}, {"suite of shorter secrets", other, errKeys}, {"long message", long, errKeys}} {
		if _, err := Import(new(wire), &tls.Config{}, &tc.k); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	for n := range len(good.Append(nil)) {
		if _, _, err := Parse(good.Append(nil)[:n]); err == nil {
			t.Errorf("%d bytes are enough", n)
		}
	}
	if _, _, err := Parse(unknown.Append(nil)); !errors.Is(err, errSuite) {
		t.Errorf("unknown suite: %v", err)
	}
}

// What has ended, has not begun or has an older version stays.
func TestCannot(t *testing.T) {
	if now, ever := Can(tls.Server(new(wire), &tls.Config{})); now || ever {
		t.Error("before the handshake")
	}
	s := &suites[0]
	w := new(wire)
	k := keysOf(s)
	k.Hand = nil
	c, err := Import(w, &tls.Config{}, &k)
	if err != nil {
		t.Fatal(err)
	}
	client, err := NewRecords(&Keys{Suite: s.id, In: k.Out, Out: k.In})
	if err != nil {
		t.Fatal(err)
	}
	w.in = client.Seal(nil, []byte("abc"))
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if now, ever := Can(c); now || !ever {
		t.Errorf("with input that was not read: %v, %v", now, ever)
	}
	if _, err := c.Read(make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	if now, ever := Can(c); !now || !ever {
		t.Errorf("at rest: %v, %v", now, ever)
	}
	w.in = client.out.seal(s, nil, typeHandshake, 24, 0, 0)
	_, _ = c.Read(make([]byte, 1))
	if now, _ := Can(c); !now {
		t.Error("with a part of a message")
	}
	w.in = []byte{typeApplication, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20}
	_, _ = c.Read(make([]byte, 1))
	if now, ever := Can(c); now || ever {
		t.Error("after a forged record")
	}
}

// After Export the secrets are gone from the connection, which is of no use any more.
func TestExportEnds(t *testing.T) {
	k := keysOf(&suites[2])
	w := new(wire)
	c, err := Import(w, &tls.Config{}, &k)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := Export(c)
	if !bytes.Equal(got.Append(nil), k.Append(nil)) {
		t.Errorf("got %v, want %v", got, k)
	}
	if now, ever := Can(c); now || ever {
		t.Error("it can go twice")
	}
	if _, err := c.Write([]byte("x")); err == nil {
		t.Error("it can write")
	}
	if len(w.out) > 0 {
		t.Errorf("it has written % x", w.out)
	}
}

func FuzzParse(f *testing.F) {
	for i := range suites {
		k := keysOf(&suites[i])
		f.Add(k.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		k, rest, err := Parse(b)
		if err != nil {
			return
		}
		if !bytes.Equal(append(k.Append(nil), rest...), b) {
			t.Error("what was parsed is something else")
		}
		if _, err := Import(new(wire), &tls.Config{}, &k); err != nil {
			t.Error(err)
		}
	})
}
