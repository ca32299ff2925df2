package wsproto

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"testing"
)

// joined reads a message in two frames as a client does that knows nothing of how it was made.
func joined(t *testing.T, b []byte, deflated bool) []byte {
	t.Helper()
	var payload []byte
	for i := range 2 {
		first := byte(OpText)
		if deflated {
			first |= bitRsv1
		}
		if i == 1 {
			first = bitFin | byte(OpContinuation)
		}
		if len(b) < 2 || b[0] != first || b[1]&bitMask != 0 {
			t.Fatalf("frame %d begins with % x", i, b[:min(len(b), 2)])
		}
		n, head := int(b[1]), 2
		switch n {
		case len16:
			n, head = int(b[2])<<8|int(b[3]), 4
		case len64:
			n, head = int(b[6])<<24|int(b[7])<<16|int(b[8])<<8|int(b[9]), MaxHeader
		}
		payload = append(payload, b[head:head+n]...)
		b = b[head+n:]
	}
	if len(b) > 0 {
		t.Fatalf("%d bytes too many", len(b))
	}
	if !deflated {
		return payload
	}
	end := syncTail + "\x01\x00\x00\xff\xff" // the message's own end, and that of the stream
	out, err := io.ReadAll(flate.NewReader(io.MultiReader(bytes.NewReader(payload), bytes.NewReader([]byte(end)))))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestMessageInTwoFrames(t *testing.T) {
	for _, sizes := range [][2]int{{1, 300}, {40, 20_000}, {70_000, 1000}, {25, 200_000}} {
		for name, text := range map[string]func(int) []byte{"text": event, "noise": noise} {
			t.Run(fmt.Sprint(name, sizes), func(t *testing.T) {
				head, rest := text(sizes[0]), text(sizes[1])
				want := append(bytes.Clone(head), rest...)
				plain := AppendLast(AppendFirst(nil, OpText, head), rest)
				if got := joined(t, plain, false); !bytes.Equal(got, want) {
					t.Error("plain: another message")
				}
				packed := AppendDeflatedLast(AppendDeflatedFirst(nil, OpText, head), rest)
				if got := joined(t, packed, true); !bytes.Equal(got, want) {
					t.Error("compressed: another message")
				}
				if name == "text" && sizes[1] >= 20_000 && len(packed) > len(head)+len(rest)/2 {
					t.Errorf("%d bytes of %d", len(packed), len(want))
				}
			})
		}
	}
}
