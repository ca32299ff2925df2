package res

import (
	"bytes"
	"strings"
	"testing"
)

// TestYield: while a long message is read, Yield is called for each few kilobytes, whatever the
// message consists of, and the result is the same.
func TestYield(t *testing.T) {
	const size = 1 << 20
	fill := func(s string) string { return strings.Repeat(s, size/len(s)) }
	for name, params := range map[string]string{
		"numbers":         `[0` + fill(",0") + `]`,
		"spaced":          `[0` + fill(" , 0") + `]`,
		"strings":         `[""` + fill(`,""`) + `]`,
		"escapes":         `"` + fill(`\n`) + `"`,
		"lone surrogates": `"` + fill(`\ud800`) + `"`,
		"objects":         `[{}` + fill(`,{"a":{"b":[]}}`) + `]`,
		"not ASCII":       `"` + fill("é€😀") + `"`,
	} {
		t.Run(name, func(t *testing.T) {
			message := []byte(`{"id":1,"method":"call.a.b","params":` + params + `}`)
			var quiet, yields Parser
			n := 0
			yields.Yield = func() { n++ }
			var want, got Request
			if err := quiet.Request(message, &want); err != nil {
				t.Fatal(err)
			}
			if err := yields.Request(message, &got); err != nil {
				t.Fatal(err)
			}
			if got.ID != want.ID || got.RID != want.RID || got.Method != want.Method || !bytes.Equal(got.Params, want.Params) {
				t.Error("the result is another one")
			}
			if least := len(message) / yieldText; n < least {
				t.Errorf("called %d times, want %d at least", n, least)
			}
			if name != "not ASCII" && n < len(message)/(2*yieldBytes) {
				t.Errorf("called %d times for %d bytes", n, len(message))
			}

			n = 0
			for _, cut := range []int{len(message) - 1, len(message) - len(params)/2} {
				broken := message[:cut]
				offset, reason := new(Parser).Diagnose(broken)
				if at, why := yields.Diagnose(broken); at != offset || why != reason {
					t.Errorf("%d, %q, want %d, %q", at, why, offset, reason)
				}
			}
		})
	}
}

// TestYieldUTF8: text that is checked in parts is as valid as in one.
func TestYieldUTF8(t *testing.T) {
	for _, s := range []string{"é", "€", "😀", "\xf0\x9f\x98", "\x80", "\xff"} {
		for before := yieldText - 6; before <= yieldText+1; before++ {
			text := []byte(strings.Repeat("a", before) + s + strings.Repeat("b", yieldText))
			if got, want := valid(text, func() {}), valid(text, nil); got != want {
				t.Errorf("%q at %d: %v, want %v", s, before, got, want)
			}
		}
	}
}
