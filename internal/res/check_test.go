package res

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/valyala/fastjson"
)

func TestCheck(t *testing.T) {
	for _, s := range []string{
		`null`, `true`, `false`, `0`, `-0`, `-1.5e+10`, `1E5`, `1e-5`, `10`, `0.5`, `""`, `[]`, `{}`, " \t\r\n1 \t\r\n",
		`{"a":[1,{"b":null}],"":""}`, `"\"\\\/\b\f\n\r\t\u0041\uD83D\uDE00"`, `"ö日😀"`, `"\u0000"`, `"\ud83d"`,
		`"12345678\"12345678"`, `"` + strings.Repeat("x", 100) + `"`, "\"\x7f\"", "\"\u2028\ufffe\"",
		strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth),
		strings.Repeat(`{"a":`, MaxDepth) + "1" + strings.Repeat("}", MaxDepth),
	} {
		if _, ok := check([]byte(s), nil); !ok {
			t.Errorf("refuses %.60q", s)
		}
	}
	for _, s := range []string{
		``, ` `, `nul`, `nullx`, `tru`, `True`, `NaN`, `nan`, `inf`, `-inf`, `Infinity`, `-`, `+1`, `01`, `-01`, `1.`, `.5`, `1e`, `1e+`,
		`1.e5`, `0x10`, `1_0`, `--1`, `1 2`, `"`, `"a`, `"\"`, `"\x"`, `"\u12"`, `"\u12g4"`, `"\u+123"`, `'a'`, "\"\n\"", "\"\x00\"", "\"12345678\x1f\"",
		`[`, `]`, `[1`, `[1,`, `[1,]`, `[,1]`, `[1 2]`, `{`, `}`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{,}`, `{a:1}`, `{"a" 1}`, `{1:1}`,
		`{"a":1 "b":2}`, `[1}`, `{"a":1]`, "\"\xff\"", "\"\xc0\xaf\"", "\"\xed\xa0\xbd\"", "\xef\xbb\xbf1", "\u00a01", "\v1", "//x\n1",
		strings.Repeat("[", MaxDepth+1) + strings.Repeat("]", MaxDepth+1),
		strings.Repeat("[", 1<<20),
	} {
		if _, ok := check([]byte(s), nil); ok {
			t.Errorf("takes %.60q", s)
		}
	}
}

func TestCheckTraits(t *testing.T) {
	for s, want := range map[string]traits{
		`{"a b":" "}`:                 0,
		` 1`:                          spaced,
		"1\n":                         spaced,
		`{"a": 1}`:                    spaced,
		`[1 ]`:                        spaced,
		`"\ud83d\ude00"`:              0,
		`"\\ud83d"`:                   0,
		`"\ud83d"`:                    lone,
		`"\ude00"`:                    lone,
		`"\ude00\ud83d"`:              lone,
		`"\ud83d\ud83d\ude00"`:        lone,
		`{"\ud83dx":1}`:               lone,
		`["\ud83d\n", 1]`:             lone | spaced,
		`"1234567\ud83d\u0041 12345"`: lone,
	} {
		if got, ok := check([]byte(s), nil); got != want || !ok {
			t.Errorf("check(%q) = %v, %v", s, got, ok)
		}
	}
}

// TestHostileTextIsRejectedCheaply checks that rejecting a text copies none of it, at any nesting
// depth.
func TestHostileTextIsRejectedCheaply(t *testing.T) {
	var p Parser
	garbage := strings.Repeat("\x01", 1<<16)
	for _, s := range []string{
		strings.Repeat("[", MaxDepth) + "n" + garbage,
		strings.Repeat(`{"a":`, MaxDepth) + "t" + garbage,
		strings.Repeat("[", 1<<16),
		`{"id":1,"method":"` + garbage,
		`{"id":1,"method":"a` + strings.Repeat(`\"`, 1<<15),
	} {
		msg := []byte(s)
		var v RequestView
		n := testing.AllocsPerRun(10, func() {
			if err := p.View(msg, &v); err != ErrMalformed {
				t.Fatalf("%.30q: %v", s, err)
			}
		})
		if n != 0 {
			t.Errorf("%.30q: %v allocations", s, n)
		}
	}
}

func TestDiagnose(t *testing.T) {
	for _, tt := range []struct {
		text   string
		offset int
		reason string
	}{
		{`{"a":1}`, 7, ""},
		{``, 0, "unexpected end"},
		{" \n", 2, "unexpected end"},
		{`{`, 1, "unexpected end"},
		{`{"a"`, 4, "unexpected end"},
		{`{"a":`, 5, "unexpected end"},
		{`{"a":1`, 6, "unexpected end"},
		{`[1,`, 3, "unexpected end"},
		{`"abc`, 4, "unexpected end"},
		{`nul`, 3, "unexpected end"},
		{`-`, 1, "unexpected end"},
		{`1e`, 2, "unexpected end"},
		{`{"a":1}}`, 7, "text after the end of the value"},
		{`1 2`, 2, "text after the end of the value"},
		{`{a:1}`, 1, "expected a property name in double quotes"},
		{`{"a":1,}`, 7, "expected a property name in double quotes"},
		{`{"a" 1}`, 5, "expected ':' after a property name"},
		{`{"a":1 "b":2}`, 7, "expected ',' or '}' after a property"},
		{`[1 2]`, 3, "expected ',' or ']' after an element"},
		{`[1,]`, 3, "expected a value"},
		{`{"a":}`, 5, "expected a value"},
		{`a=1&b=2`, 0, "expected a value"},
		{`'a'`, 0, "expected a value"},
		{`NaN`, 0, "expected a value"},
		{`trux`, 3, "expected a value"},
		{`-x`, 1, "expected a value"},
		{"\u00a01", 0, "expected a value"},
		{`[01]`, 2, "number with a leading zero"},
		{`1.x`, 2, "expected a digit after the decimal point"},
		{`1e+x`, 3, "expected a digit in the exponent"},
		{"[\"a\nb\"]", 3, "control character in a string"},
		{`["a\x"]`, 3, "invalid escape sequence in a string"},
		{`["a\u12g4"]`, 3, "invalid escape sequence in a string"},
		{"\xef\xbb\xbf{}", 0, "byte order mark before the value"},
		{"{\"a\":\"\xff\"}", 6, "invalid UTF-8"},
		{"[\xff]", 1, "invalid UTF-8"},
		{"[\"\xff\",]", 2, "invalid UTF-8"}, // the first of two faults
		{"[,\"\xff\"]", 1, "expected a value"},
		{strings.Repeat("[", MaxDepth+1), MaxDepth, "nested deeper than 256 levels"},
		{strings.Repeat(`{"a":`, MaxDepth+1), 5 * MaxDepth, "nested deeper than 256 levels"},
	} {
		if offset, reason := new(Parser).Diagnose([]byte(tt.text)); offset != tt.offset || reason != tt.reason {
			t.Errorf("%.40q: %d, %q, want %d, %q", tt.text, offset, reason, tt.offset, tt.reason)
		}
	}
}

// diagnosed checks what Diagnose says of a text that check accepts, or rejects, against the offset
// of encoding/json.
func diagnosed(t *testing.T, b []byte, valid bool) {
	t.Helper()
	offset, reason := new(Parser).Diagnose(b)
	if (reason == "") != valid || offset < 0 || offset > len(b) || valid && offset != len(b) {
		t.Fatalf("Diagnose(%q) = %d, %q, but check is %v", b, offset, reason, valid)
	}
	if valid || !utf8.Valid(b) || depth(b) > MaxDepth {
		return
	}
	var fault *json.SyntaxError
	if err := json.Unmarshal(b, new(json.RawMessage)); !errors.As(err, &fault) {
		t.Fatalf("%q: %v", b, err)
	}
	want := int(fault.Offset) - 1
	// For the end of the text within a literal, encoding/json reports a space that is not there.
	end := strings.HasPrefix(fault.Error(), "invalid character ' '") && b[want] != ' '
	if end || strings.HasPrefix(fault.Error(), "unexpected end") {
		want = len(b)
	}
	within := 0
	if strings.Contains(reason, "escape") {
		within = len(`\uFFF`)
	}
	if offset > want || offset+within < want {
		t.Fatalf("Diagnose(%q) = %d, %q; encoding/json: %d, %v", b, offset, reason, want, fault)
	}
}

// FuzzCheck compares check and Diagnose with encoding/json, which is strict except about UTF-8.
func FuzzCheck(f *testing.F) {
	for _, s := range []string{
		`{"a":[1,-2.5e3,"x\u00e9\ud83d"],"b":null}`, ` [ ] `, `"\ud83d\ude00"`, `NaN`, "\"\xff\"", `[[[[`, `{"a":1,}`, `1e5`, `"12345678\"`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, ok := check(b, nil)
		want := json.Valid(b) && utf8.Valid(b)
		if want && depth(b) > MaxDepth {
			want = false
		}
		if ok != want {
			t.Fatalf("check(%q) = %v", b, ok)
		}
		diagnosed(t, b, ok)
		if !ok {
			return
		}
		var c bytes.Buffer
		if err := json.Compact(&c, b); err != nil {
			t.Fatal(err)
		}
		if s := compact(nil, b, nil); !bytes.Equal(s, c.Bytes()) {
			t.Fatalf("compact(%q) = %q, want %q", b, s, c.Bytes())
		}
		if (got&spaced == 0) != bytes.Equal(b, c.Bytes()) {
			t.Fatalf("%q: spaced is %v", b, got&spaced != 0)
		}
		r := repair(nil, b)
		if (got&lone == 0) != bytes.Equal(r, b) || len(r) != len(b) {
			t.Fatalf("%q: lone is %v, repaired %q", b, got&lone != 0, r)
		}
		if again, ok := check(r, nil); !ok || again&lone != 0 {
			t.Fatalf("%q is repaired to %q", b, r)
		}
		if x, y := decode(t, b), decode(t, r); !equalJSON(x, y) {
			t.Fatalf("%q is repaired to %q", b, r)
		}
		// fastjson reads every accepted text, and marshals it as compact text.
		var p fastjson.Parser
		v, err := p.ParseBytes(r)
		if err != nil {
			t.Fatalf("fastjson refuses %q: %v", r, err)
		}
		if m := v.MarshalTo(nil); !bytes.Equal(m, compact(nil, r, nil)) {
			t.Fatalf("fastjson makes %q of %q", m, r)
		}
	})
}

// depth returns the nesting depth of valid JSON text.
func depth(b []byte) (deepest int) {
	d, inString := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '[' || c == '{':
			d++
			deepest = max(deepest, d)
		case c == ']' || c == '}':
			d--
		}
	}
	return deepest
}

// decode decodes JSON text with encoding/json, with numbers as text.
func decode(t testing.TB, b []byte) (v any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%q: %v", b, err)
	}
	return v
}

func equalJSON(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		m, ok := b.(map[string]any)
		if !ok || len(a) != len(m) {
			return false
		}
		for k, v := range a {
			w, ok := m[k]
			if !ok || !equalJSON(v, w) {
				return false
			}
		}
		return true
	case []any:
		l, ok := b.([]any)
		if !ok || len(a) != len(l) {
			return false
		}
		for i := range a {
			if !equalJSON(a[i], l[i]) {
				return false
			}
		}
		return true
	}
	return a == b
}

// wantRaw fails unless s is compact JSON in valid UTF-8, as every raw value must be.
func wantRaw(t testing.TB, s string) {
	t.Helper()
	var c bytes.Buffer
	if err := json.Compact(&c, []byte(s)); err != nil {
		t.Fatalf("raw value %q: %v", s, err)
	}
	if c.String() != s || !utf8.ValidString(s) {
		t.Fatalf("raw value %q is not compact JSON in valid UTF-8", s)
	}
}

func BenchmarkCheck(b *testing.B) {
	item := `{"id":12345,"name":"Some name of a thing","price":12.50,"tags":["one","two"],"on":true}`
	long, _ := json.Marshal(strings.Repeat("Lorem ipsum dolor sit amet, ", 400))
	for _, c := range []struct {
		name string
		text []byte
	}{
		{"small", []byte(item)},
		{"list", []byte("[" + strings.Repeat(item+",", 1000) + "1]")},
		{"string", long},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(c.text)))
			for b.Loop() {
				check(c.text, nil)
			}
		})
	}
}
