package wsproto

import (
	"bytes"
	"strings"
	"testing"
)

// FuzzDeflated: whatever is sent compressed comes back, in one frame or two, and
// from a client as from a server.
func FuzzDeflated(f *testing.F) {
	f.Add([]byte(nil), 1, uint16(0))
	f.Add(event(300), 1, uint16(7))
	f.Add(event(100), 20, uint16(100))
	f.Add(noise(300), 1, uint16(300))
	f.Add([]byte{0}, 10000, uint16(30))
	f.Fuzz(func(t *testing.T, payload []byte, times int, cut uint16) {
		if len(payload) > 4<<10 || times < 0 {
			return
		}
		payload = bytes.Repeat(payload, times%100)
		limit := max(len(payload), 1)
		want := got(OpBinary, string(payload))
		check := func(from string, in []byte, mode mode) {
			f := newFeeder(t, limit, mode)
			at := min(int(cut), len(in))
			f.feed(in[:at])
			f.feed(in[at:])
			if len(f.events) != 1 || f.events[0] != want {
				t.Fatalf("from %s: got %q, want %q", from, f.events, want)
			}
		}
		sent := AppendDeflated(nil, OpBinary, payload)
		if len(sent) > HeaderLen(len(payload))+len(payload) {
			t.Fatalf("%d bytes for %d", len(sent), len(payload))
		}
		check("a server", sent, modeDeflate|modeServer)
		var p Parser
		p.FromServer()
		p.KeepCompressed()
		m, _, done, err := p.Next(sent, Limits{Message: limit})
		text := m.Payload
		if m.Compressed && err == nil {
			out, failed := InflateMessage(m.Op, m.Payload, limit, nil)
			text, err = bytes.Clone(out.B), failed
			out.Put()
		}
		if err != nil || !done || !bytes.Equal(text, payload) {
			t.Fatalf("kept compressed: %d bytes of %d, %v, %v", len(text), len(payload), done, err)
		}
		packed := pack(string(payload))
		at := min(int(cut), len(packed))
		check("a client", stream(withBits(0x40, frame(more, OpBinary, packed[:at])), frame(fin, OpContinuation, packed[at:])), modeDeflate)
	})
}

// FuzzInflate compares inflating any bytes with a new decompressor of the standard library, within
// the limit, and checks that the memory allocated is bounded by the limit.
func FuzzInflate(f *testing.F) {
	for i, in := range []string{
		"", "\x00", "\xf2\x48\xcd\xc9\xc9\x07\x00", "\xf3\x48\xcd\xc9\xc9\x07\x00\x00", "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
		pack(string(event(2000))), pack(strings.Repeat("\x00", 100000)), stored("Hello", 2, true), "\x01", "\x01\x02\x00\xfd\xff", "\x07\x00",
		"\xec\xc0\x01\r\x00\x00\x00\x010\xfdS\xdb\xd4\xf0%00000000000000",
		stored("Hello", 5, true) + "\xf2\x00\x11\x00\x00", strings.Repeat("\x03\x00", freeStreams+1),
	} {
		f.Add([]byte(in), uint32(50*i))
	}
	f.Fuzz(func(t *testing.T, packed []byte, limit uint32) {
		if len(packed) > 4<<10 {
			return
		}
		most := 1 + int(limit%(128<<10))
		before := bytes.Clone(packed)
		want, wantErr := referenceInflate(packed, most)
		out, err := inflate(packed, most, nil)
		if len(out.B) > most || cap(out.B) > max(1024, 4*most) {
			t.Fatalf("%d bytes in %d with a limit of %d", len(out.B), cap(out.B), most)
		}
		if err != wantErr || err == nil && !bytes.Equal(out.B, want) {
			t.Fatalf("limit %d: got %d bytes, %v; the standard library %d bytes, %v", most, len(out.B), err, len(want), wantErr)
		}
		if !bytes.Equal(packed, before) {
			t.Fatal("the input was changed")
		}
		out.Put()
	})
}
