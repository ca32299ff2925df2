package tlsrecord

import (
	"math/rand/v2"
	"testing"
)

// TestPosition: records are found in a stream that arrives in random pieces, whether their ends are
// asked for or passed.
func TestPosition(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	var stream []byte
	ends := map[int]bool{}
	for range 2000 {
		n := rnd.IntN(1 << rnd.IntN(13))
		stream = append(stream, 23, 3, 3, byte(n>>8), byte(n))
		stream = append(stream, make([]byte, n)...)
		ends[len(stream)] = true
	}
	var p Position
	for off, seen := 0, 0; off < len(stream); {
		seen = min(len(stream), max(seen, off)+rnd.IntN(3000))
		if rnd.IntN(4) == 0 { // passed without regard to records
			p.Pass(stream[off:seen])
			off = seen
			continue
		}
		for {
			n := p.Whole(stream[off:seen])
			if n == 0 {
				break
			}
			p.Pass(stream[off : off+n])
			if off += n; !ends[off] || p != (Position{head: p.head}) {
				t.Fatalf("%d is not the end of a record", off)
			}
		}
		for end := off + 1; end <= seen; end++ {
			if ends[end] {
				t.Fatalf("the record that ends at %d was not found", end)
			}
		}
	}
}

// TestNext: reads of Next bytes end at the header and at the payload of each record.
func TestNext(t *testing.T) {
	stream := []byte{23, 3, 3, 0, 2, 'a', 'b', 23, 3, 3, 0, 0, 23, 3, 3, 0, 1, 'c'}
	var p Position
	var got []int
	for off := 0; off < len(stream); {
		n := p.Next()
		got = append(got, n)
		p.Pass(stream[off : off+n])
		off += n
	}
	want := []int{5, 2, 5, 5, 1}
	if len(got) != len(want) {
		t.Fatalf("reads of %d bytes, want %d", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("reads of %d bytes, want %d", got, want)
		}
	}
}

// TestTooLong: of a record that is too long the header is enough for crypto/tls to reject it.
func TestTooLong(t *testing.T) {
	var p Position
	if n := p.Whole([]byte{23, 3, 3, 0xff, 0xff}); n != HeaderLen {
		t.Errorf("%d bytes, want the header", n)
	}
	if n := p.Whole([]byte{23, 3, 3, MaxPayload >> 8, MaxPayload & 0xff}); n != 0 {
		t.Errorf("%d bytes of the longest record, whose payload is missing", n)
	}
}

// record returns a handshake record.
func record(payload ...byte) []byte {
	return append([]byte{typeHandshake, 3, 1, byte(len(payload) >> 8), byte(len(payload))}, payload...)
}

func TestClientHello(t *testing.T) {
	const limit = 100
	hello := []byte{typeHello, 0, 0, 3, 'a', 'b', 'c'}
	long := make([]byte, limit)
	for _, tc := range []struct {
		name         string
		in           []byte
		complete, ok bool
	}{
		{name: "nothing", ok: true},
		{name: "one record", in: record(hello...), complete: true, ok: true},
		{name: "two records", in: append(record(hello[:2]...), record(hello[2:]...)...), complete: true, ok: true},
		{name: "more after it", in: append(record(hello...), "GET /"...), complete: true, ok: true},
		{name: "the last byte is missing", in: record(hello...)[:HeaderLen+len(hello)-1], ok: true},
		{name: "the second record is missing", in: record(hello[:5]...), ok: true},
		{name: "half a header", in: record(hello...)[:3], ok: true},
		{name: "HTTP", in: []byte("GET / HTTP/1.1\r\n")},
		{name: "another version", in: []byte{typeHandshake, 2}},
		{name: "another record", in: []byte{23, 3, 3, 0, 1}},
		{name: "another record after half a hello", in: append(record(hello[:5]...), 23)},
		{name: "another message", in: record(2, 0, 0, 0)},
		{name: "an empty record", in: record()},
		{name: "a record that is too long", in: []byte{typeHandshake, 3, 1, 0x40, 1}},
		{name: "a message of the limit", in: record(append([]byte{typeHello, 0, 0, limit}, long...)...), complete: true, ok: true},
		{name: "a message beyond the limit", in: record(typeHello, 0, 0, limit+1)},
		{name: "too much without an end", in: append(record(typeHello, 0, 0, limit), record(long[:limit-5]...)...)},
	} {
		complete, ok := ClientHello(tc.in, limit)
		if complete != tc.complete || ok != tc.ok {
			t.Errorf("%s: complete %v, ok %v; want %v, %v", tc.name, complete, ok, tc.complete, tc.ok)
		}
	}
}

// FuzzClientHello: a prefix never gets a verdict that more bytes take back.
func FuzzClientHello(f *testing.F) {
	f.Add(record(typeHello, 0, 0, 1, 'x'), 5)
	f.Add(append(record(typeHello, 0), record(0, 1, 'x')...), 7)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		const limit = 1 << 10
		if cut < 0 || cut > len(b) {
			return
		}
		complete, ok := ClientHello(b, limit)
		if complete && !ok {
			t.Fatal("complete and not ok")
		}
		early, possible := ClientHello(b[:cut], limit)
		if early && !complete || !possible && ok {
			t.Fatalf("%d bytes: complete %v, ok %v; all %d: %v, %v", cut, early, possible, len(b), complete, ok)
		}
	})
}
