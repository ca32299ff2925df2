//go:build linux

package client

import (
	"bytes"
	"compress/flate"
	"strings"
	"testing"
)

// shut compresses a message as a server without context takeover does.
func shut(t *testing.T, s string) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte{0, 0, 0xff, 0xff})
}

func TestInflate(t *testing.T) {
	var d inflater
	for round := range 3 {
		for i := range 2 * len(d.kept) {
			want := strings.Repeat("message ", i*100+1)
			got, err := d.open(shut(t, want))
			if err != nil || string(got) != want {
				t.Fatalf("round %d, message %d: %d bytes, %v", round, i, len(got), err)
			}
		}
	}
	if _, err := d.open([]byte{0xff, 0xff, 0xff}); err == nil {
		t.Error("rubbish is opened")
	}
	// The same message for the next client costs no second decompression.
	one := shut(t, strings.Repeat("again ", 100))
	if _, err := d.open(one); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = d.open(one) }); n != 0 {
		t.Errorf("%v allocations for a message that was seen", n)
	}
}
