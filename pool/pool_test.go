package pool

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestArena commits messages of all sizes and checks all of them at the end: none was overwritten,
// and Join returned the bytes of both.
func TestArena(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var a Arena
	var got, want [][]byte
	joined := 0
	for i := range 5000 {
		n := rnd.IntN(1 << rnd.IntN(17))
		b := a.Begin()
		if len(b) != 0 || cap(b) < fresh {
			t.Fatalf("Begin gives %d bytes with room for %d", len(b), cap(b))
		}
		if rnd.IntN(10) == 0 {
			_ = append(b, "discarded"...)
			continue
		}
		m := bytes.Repeat([]byte{byte(i)}, n)
		for part := m; len(part) > 0; {
			k := 1 + rnd.IntN(len(part))
			b = append(b, part[:k]...)
			part = part[k:]
		}
		b = a.Commit(b)
		if cap(b) != len(b) {
			t.Fatalf("a message of %d bytes has capacity %d", len(b), cap(b))
		}
		if len(got) > 0 {
			last := got[len(got)-1]
			if both, ok := a.Join(last, b); ok {
				joined++
				if !bytes.Equal(both, append(bytes.Clone(last), b...)) {
					t.Fatal("Join gives other bytes")
				}
			}
			if _, ok := a.Join(b, last); ok && len(b) > 0 {
				t.Fatal("joined in the wrong order")
			}
		}
		got, want = append(got, b), append(want, m)
	}
	for i := range got {
		if !bytes.Equal(got[i], want[i]) {
			t.Fatalf("message %d was changed", i)
		}
	}
	if joined < 1000 {
		t.Errorf("only %d of 5000 neighbours could be joined", joined)
	}
}

func TestArenaJoinRefuses(t *testing.T) {
	var a Arena
	x, y, z := a.Copy([]byte("x")), a.Copy([]byte("y")), a.Copy([]byte("z"))
	if _, ok := a.Join(x, z); ok {
		t.Error("joined over a gap")
	}
	if both, ok := a.Join(y, z); !ok || string(both) != "yz" || cap(both) != 2 {
		t.Errorf("%q %v", both, ok)
	}
	for _, foreign := range [][]byte{nil, {}, []byte("f"), make([]byte, ChunkSize)} {
		if _, ok := a.Join(z, foreign); ok {
			t.Error("joined with a foreign slice")
		}
		if _, ok := a.Join(foreign, z); ok {
			t.Error("a foreign slice was joined")
		}
	}
	a.Copy(make([]byte, ChunkSize/4-1))
	for range 4 { // into the next chunk
		a.Copy(make([]byte, ChunkSize/4-1))
	}
	if _, ok := a.Join(x, y); ok {
		t.Error("joined in an earlier chunk")
	}
	if a.Commit(a.Begin()) != nil {
		t.Error("an empty message is not nil")
	}
}

func TestArenaTakesOneChunkForManyMessages(t *testing.T) {
	var a Arena
	m := bytes.Repeat([]byte("x"), 100)
	if n := testing.AllocsPerRun(1000, func() {
		for range 300 { // 30,000 bytes
			a.Copy(m)
		}
	}); n > 1 {
		t.Errorf("%v allocations for 30,000 bytes", n)
	}
}

func TestBuffer(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	var held []*Buffer
	for range 10000 {
		if rnd.IntN(2) == 0 && len(held) > 0 {
			i := rnd.IntN(len(held))
			b := held[i]
			held[i] = held[len(held)-1]
			held = held[:len(held)-1]
			if rnd.IntN(3) == 0 { // grown or replaced by the caller
				b.B = make([]byte, rnd.IntN(1<<rnd.IntN(16)))
			}
			b.Put()
			continue
		}
		n := rnd.IntN(1 << rnd.IntN(20))
		b := GetBuffer(n)
		if len(b.B) != 0 || cap(b.B) < n {
			t.Fatalf("asked for %d bytes, got %d with room for %d", n, len(b.B), cap(b.B))
		}
		b.B = append(b.B, make([]byte, n)...)
		held = append(held, b)
	}
	huge := GetBuffer(10 << 20)
	if cap(huge.B) != 10<<20 {
		t.Errorf("capacity %d", cap(huge.B))
	}
	huge.Put()
	(&Buffer{}).Put()
	if GetBuffer(-1) == nil || cap(GetBuffer(1).B) < 1 {
		t.Error("no buffer")
	}
}

func BenchmarkArenaCopy(b *testing.B) {
	var a Arena
	m := bytes.Repeat([]byte("x"), 100)
	b.ReportAllocs()
	for b.Loop() {
		a.Copy(m)
	}
}
