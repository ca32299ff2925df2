//go:build linux

package client

import (
	"strings"
	"testing"

	"sluice/wsproto"
)

// packed returns a text of more than the server's threshold as permessage-deflate sends it.
func packed(t *testing.T, text string) []byte {
	t.Helper()
	var p wsproto.Parser
	p.FromServer()
	p.KeepCompressed()
	m, _, done, err := p.Next(wsproto.AppendDeflated(nil, wsproto.OpText, []byte(text)), wsproto.Limits{})
	if err != nil || !done || !m.Compressed {
		t.Fatal(m.Compressed, done, err)
	}
	return m.Payload
}

func TestInflateCache(t *testing.T) {
	var d inflateCache
	for round := range 3 {
		for i := range 2 * len(d.entries) {
			want := strings.Repeat("message ", (i+1)*100)
			got, err := d.text(wsproto.OpText, packed(t, want))
			if err != nil || string(got) != want {
				t.Fatalf("round %d, message %d: %d bytes, %v", round, i, len(got), err)
			}
		}
	}
	if _, err := d.text(wsproto.OpText, []byte{0xff, 0xff, 0xff}); err == nil {
		t.Error("invalid data is inflated")
	}
	// The same message for the next client costs no second inflation.
	one := packed(t, strings.Repeat("again ", 100))
	if _, err := d.text(wsproto.OpText, one); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = d.text(wsproto.OpText, one) }); n != 0 {
		t.Errorf("%v allocations for a cached message", n)
	}
}
