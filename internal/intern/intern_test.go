package intern

import (
	"fmt"
	"strings"
	"testing"
	"unsafe"
)

// TestOf: whatever came before, the result is the text.
func TestOf(t *testing.T) {
	var c Cache
	for round := range 2 {
		for i := range 4 * sets * ways {
			want := fmt.Sprint("text ", i)
			buf := []byte(want)
			got := c.Of(buf)
			clear(buf) // the result must not share it
			if got != want {
				t.Fatalf("round %d: %q, want %q", round, got, want)
			}
		}
	}
	for _, want := range []string{"", "a", strings.Repeat("a", longest), strings.Repeat("a", longest+1)} {
		if got := c.Of([]byte(want)); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if got := (*Cache)(nil).Of([]byte(want)); got != want {
			t.Errorf("without a cache: %q, want %q", got, want)
		}
	}
}

// TestShared: the same text is the same memory, unless it is long.
func TestShared(t *testing.T) {
	var c Cache
	for n, want := range map[int]bool{2: true, longest: true, longest + 1: false} {
		b := make([]byte, n)
		one, other := c.Of(b), c.Of(b)
		if is := unsafe.StringData(one) == unsafe.StringData(other); is != want {
			t.Errorf("%d bytes: shared is %v, want %v", n, is, want)
		}
	}
}

// TestAllocOf: a text that is there costs nothing.
func TestAllocOf(t *testing.T) {
	var c Cache
	b := []byte("example.resource")
	c.Of(b)
	if n := testing.AllocsPerRun(100, func() { c.Of(b) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestFewStay: a few texts that come in turn stay, wherever they belong.
func TestFewStay(t *testing.T) {
	for i := range 1000 {
		var c Cache
		var texts [4][]byte
		var first [4]string
		for j := range texts {
			texts[j] = fmt.Appendf(nil, "text %d of %d", j, i)
			first[j] = c.Of(texts[j])
		}
		for j, b := range texts {
			if unsafe.StringData(c.Of(b)) != unsafe.StringData(first[j]) {
				t.Fatalf("%q did not stay", b)
			}
		}
	}
}
