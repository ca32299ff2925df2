package tlskeys

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"testing"

	"sluice/netpoll/tlsrecord"
)

// pairOf returns both sides of a made-up connection.
func pairOf(t testing.TB, s *suite) (server, client *Records) {
	t.Helper()
	k := keysOf(s)
	k.Hand = nil
	server, err := NewRecords(&k)
	if err != nil {
		t.Fatal(err)
	}
	k.In, k.Out = k.Out, k.In
	if client, err = NewRecords(&k); err != nil {
		t.Fatal(err)
	}
	return server, client
}

// openAll opens records one after the other, and returns their data.
func openAll(t testing.TB, r *Records, b []byte) (data []byte) {
	t.Helper()
	for len(b) > 0 {
		var at tlsrecord.Position
		n := at.Whole(b)
		var sent []byte
		var err error
		if data, sent, err = r.Open(data, b[:n], nil); err != nil || len(sent) > 0 {
			t.Fatalf("% x, %v", sent, err)
		}
		b = b[n:]
	}
	return data
}

func eachSuite(t *testing.T, test func(t *testing.T, s *suite)) {
	for i := range suites {
		t.Run(tls.CipherSuiteName(suites[i].id), func(t *testing.T) { test(t, &suites[i]) })
	}
}

// Data goes both ways, in as few records as possible, with and without ciphers.
func TestRecords(t *testing.T) {
	eachSuite(t, func(t *testing.T, s *suite) {
		server, client := pairOf(t, s)
		for _, n := range []int{1, 100, tlsrecord.MaxPlaintext, tlsrecord.MaxPlaintext + 1, 100_000} {
			want := bytes.Repeat([]byte("x"), n)
			for _, way := range [][2]*Records{{server, client}, {client, server}} {
				sealed := way[0].Seal([]byte("before"), want)
				if records := (n + tlsrecord.MaxPlaintext - 1) / tlsrecord.MaxPlaintext; len(sealed) != 6+n+records*(5+1+16) {
					t.Errorf("%d bytes for %d", len(sealed), n)
				}
				if got := openAll(t, way[1], sealed[6:]); !bytes.Equal(got, want) {
					t.Errorf("%d bytes of %d", len(got), n)
				}
				way[n%2].Rest()
			}
		}
	})
}

// A connection goes from Records to Records and crypto/tls, and out of it.
func TestTake(t *testing.T) {
	eachSuite(t, func(t *testing.T, s *suite) {
		server, client := pairOf(t, s)
		openAll(t, server, client.Seal(nil, []byte("a")))
		openAll(t, client, server.Seal(nil, []byte("b")))
		part := client.out.seal(s, nil, typeHandshake, keyUpdate[:3]...)
		if _, sent, err := server.Open(nil, part, nil); err != nil || len(sent) > 0 {
			t.Fatal(sent, err)
		}
		k := server.Keys()
		w := new(wire)
		c, err := Import(w, &tls.Config{}, &k)
		if err != nil {
			t.Fatal(err)
		}
		next := client.out.seal(s, nil, typeHandshake, keyUpdate[3], 1)
		w.in = next[:7]
		if _, err := c.Read(make([]byte, 1)); err != errNoInput {
			t.Fatal(err)
		}
		server, raw := Take(c)
		if server == nil || !bytes.Equal(raw, next[:7]) {
			t.Fatalf("got %v, % x", server, raw)
		}
		if again, _ := Take(c); again != nil {
			t.Error("it is taken twice")
		}
		_, update, err := server.Open(nil, next, nil)
		if err != nil {
			t.Fatal(err)
		}
		client.out.update(s)
		if _, sent, err := client.Open(nil, update, nil); err != nil || len(sent) > 0 {
			t.Fatal(sent, err)
		}
		for _, way := range [][2]*Records{{server, client}, {client, server}} {
			if got := openAll(t, way[1], way[0].Seal(nil, []byte("c"))); string(got) != "c" {
				t.Errorf("got %q", got)
			}
		}
		server.Wipe()
		if *server != (Records{}) {
			t.Error("secrets are left")
		}
	})
}

// What a client may not send ends the connection, with the alert that RFC 8446 has for it.
func TestRecordsAreRefused(t *testing.T) {
	s := &suites[0]
	seal := func(kind byte, content ...byte) func(*Records) [][]byte {
		return func(c *Records) [][]byte { return [][]byte{c.out.seal(s, nil, kind, content...)} }
	}
	both := func(a, b func(*Records) [][]byte) func(*Records) [][]byte {
		return func(c *Records) [][]byte { return append(a(c), b(c)...) }
	}
	for name, tc := range map[string]struct {
		records func(client *Records) [][]byte
		alert   byte
	}{
		"forged": {func(c *Records) [][]byte {
			b := c.Seal(nil, []byte("a"))
			b[len(b)-1] ^= 1
			return [][]byte{b}
		}, badRecordMAC},
		"other header": {func(c *Records) [][]byte {
			b := c.Seal(nil, []byte("a"))
			b[2] ^= 1
			return [][]byte{b}
		}, badRecordMAC},
		"repeated": {func(c *Records) [][]byte {
			b := c.Seal(nil, []byte("a"))
			return [][]byte{b, b}
		}, badRecordMAC},
		"not sealed":           {func(*Records) [][]byte { return [][]byte{{typeAlert, 3, 3, 0, 2, 1, 0}} }, unexpectedMessage},
		"change of ciphers":    {func(*Records) [][]byte { return [][]byte{{20, 3, 3, 0, 1, 1}} }, unexpectedMessage},
		"empty":                {func(*Records) [][]byte { return [][]byte{{typeApplication, 3, 3, 0, 0}} }, badRecordMAC},
		"long by its header":   {func(*Records) [][]byte { return [][]byte{{typeApplication, 3, 3, 255, 255}} }, recordOverflow},
		"long":                 {seal(typeApplication, make([]byte, tlsrecord.MaxPlaintext+1)...), recordOverflow},
		"padding alone":        {seal(0, 0, 0, 0), unexpectedMessage},
		"unknown type":         {seal(99, 1), unexpectedMessage},
		"sealed change":        {seal(20, 1), unexpectedMessage},
		"empty handshake":      {seal(typeHandshake), unexpectedMessage},
		"other handshake":      {seal(typeHandshake, 4, 0, 0, 1), unexpectedMessage},
		"long key update":      {seal(typeHandshake, typeKeyUpdate, 0, 0, 2, 0, 0), unexpectedMessage},
		"unknown key update":   {seal(typeHandshake, typeKeyUpdate, 0, 0, 1, 2), illegalParameter},
		"two key updates":      {seal(typeHandshake, typeKeyUpdate, 0, 0, 1, 0, typeKeyUpdate), unexpectedMessage},
		"data in a key update": {both(seal(typeHandshake, typeKeyUpdate), seal(typeApplication, 'a')), unexpectedMessage},
		"short alert":          {seal(typeAlert, 1), unexpectedMessage},
		"long alert":           {seal(typeAlert, 1, 0, 0), unexpectedMessage},
		"key updates, no data": {func(c *Records) (all [][]byte) {
			for range maxUseless + 1 {
				all = append(all, c.out.seal(s, nil, typeHandshake, append(keyUpdate[:], 0)...))
				c.out.update(s)
			}
			return all
		}, unexpectedMessage},
		"empty records": {func(c *Records) (all [][]byte) {
			for range maxUseless + 1 {
				all = append(all, c.out.seal(s, nil, typeApplication))
			}
			return all
		}, unexpectedMessage},
	} {
		server, client := pairOf(t, s)
		all := tc.records(client)
		for i, b := range all {
			_, sent, err := server.Open(nil, b, nil)
			if i+1 < len(all) {
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
				continue
			}
			if err != error(Alert{tc.alert, false}) {
				t.Errorf("%s: got %v, want alert %d", name, err, tc.alert)
			}
			_, _, err = client.Open(nil, sent, nil)
			if err != error(Alert{tc.alert, true}) {
				t.Errorf("%s: the client gets %v, want alert %d", name, err, tc.alert)
			}
		}
	}
}

func TestAlerts(t *testing.T) {
	s := &suites[2]
	server, client := pairOf(t, s)
	if _, sent, err := server.Open(nil, client.out.seal(s, nil, typeAlert, 1, userCanceled), nil); err != nil || len(sent) > 0 {
		t.Error("after user_canceled:", sent, err)
	}
	if _, sent, err := server.Open(nil, client.out.seal(s, nil, typeAlert, 1, 42), nil); err != error(Alert{42, true}) || len(sent) > 0 {
		t.Error("after an alert:", sent, err)
	}
	if _, sent, err := client.Open(nil, server.CloseNotify(nil), nil); err != io.EOF || len(sent) > 0 {
		t.Error("after close_notify:", sent, err)
	}
}

// In crypto/tls again a connection whose peer has ended its output has ended, too.
func TestReturn(t *testing.T) {
	eachSuite(t, func(t *testing.T, s *suite) {
		server, client := pairOf(t, s)
		if _, _, err := server.Open(nil, client.CloseNotify(nil), nil); err != io.EOF {
			t.Fatal(err)
		}
		w := new(wire)
		c, err := server.Return(w, &tls.Config{})
		if err != nil || *server != (Records{}) {
			t.Fatal(err, "or secrets are left")
		}
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("got %v", err)
		}
		if _, err := c.Write([]byte("a")); err != nil {
			t.Fatal(err)
		}
		if got := openAll(t, client, w.out); string(got) != "a" {
			t.Errorf("got %q", got)
		}
	})
}

// Records that both sides use keep their buffers.
func TestRecordsAllocNothing(t *testing.T) {
	eachSuite(t, func(t *testing.T, s *suite) {
		server, client := pairOf(t, s)
		data := make([]byte, 1000)
		sealed, opened := make([]byte, 0, 2000), make([]byte, 0, 2000)
		exchange := func() {
			if got, _, err := server.Open(opened, client.Seal(sealed, data), nil); err != nil || len(got) != len(data) {
				t.Fatal(len(got), err)
			}
		}
		exchange()
		if n := testing.AllocsPerRun(100, exchange); n > 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

// FuzzOpen compares Records with crypto/tls: what one takes the other takes, with the same data.
func FuzzOpen(f *testing.F) {
	f.Add(uint8(0), []byte{typeApplication, 'a', 0, 0})
	f.Add(uint8(1), []byte{typeHandshake, typeKeyUpdate, 0, 0, 1, 1})
	f.Add(uint8(2), []byte{typeHandshake, typeKeyUpdate, 0, 0})
	f.Add(uint8(0), []byte{typeAlert, 1, 0})
	f.Add(uint8(1), []byte{typeAlert, 2, 42})
	f.Add(uint8(1), []byte{typeApplication})
	f.Fuzz(func(t *testing.T, which uint8, b []byte) {
		const typeChangeCipherSpec = 20 // which crypto/tls ignores, or has another alert for
		if len(b) == 0 || len(b) > 2000 || b[0] == typeChangeCipherSpec {
			return
		}
		s := &suites[int(which)%len(suites)]
		ours, client := pairOf(t, s)
		k := ours.Keys()
		w := new(wire)
		theirs, err := Import(w, &tls.Config{}, &k)
		if err != nil {
			t.Fatal(err)
		}
		w.in = client.out.seal(s, nil, b[0], b[1:]...)
		data, sent, err := ours.Open(nil, bytes.Clone(w.in), nil)
		if b[0] == typeHandshake && err != nil {
			return // crypto/tls may wait for the rest of the message
		}
		got := make([]byte, len(b))
		n, err2 := theirs.Read(got)
		if errors.Is(err2, errNoInput) {
			err2 = nil
		}
		if (err == nil) != (err2 == nil) || (err == io.EOF) != (err2 == io.EOF) || !bytes.Equal(data, got[:n]) {
			t.Fatalf("% x: %q, %v here; %q, %v in crypto/tls", b, data, err, got[:n], err2)
		}
		if !bytes.Equal(sent, w.out) {
			t.Errorf("% x: it sends % x, crypto/tls % x", b, sent, w.out)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	for i := range suites {
		server, _ := pairOf(b, &suites[i])
		data, out := make([]byte, 150), make([]byte, 0, 2000)
		for _, rest := range []bool{false, true} {
			b.Run(tls.CipherSuiteName(suites[i].id)+map[bool]string{false: "", true: "/rested"}[rest], func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if rest {
						server.Rest()
					}
					server.Seal(out, data)
				}
			})
		}
	}
}
