package natsbus

import (
	"strings"
	"testing"
	"time"
)

func TestPreResponse(t *testing.T) {
	for _, c := range []struct {
		data string
		pre  bool
		want time.Duration // -1: none
	}{
		{`timeout:"15000"`, true, 15 * time.Second},
		{`timeout:"0"`, true, 0},
		{`note:"x" timeout:"5"`, true, 5 * time.Millisecond},
		{`timeout:"5" timeout:"6"`, true, 5 * time.Millisecond},
		{`timeout:"99999999999999"`, true, maxExtension},
		{`timeout:"99999999999999999999"`, true, -1},
		{`timeout:"-1"`, true, -1},
		{`timeout:""`, true, -1},
		{`timeout:"1`, true, -1},
		{`timeout:15000`, true, -1},
		{`timeout`, true, -1},
		{`nottimeout:"5"`, true, -1},
		{`Timeout:"5"`, true, -1},
		{`null`, true, -1},
		{`{"result":null}`, false, -1},
		{` timeout:"5"`, false, -1},
		{`"timeout"`, false, -1},
		{`@`, false, -1}, {`[`, false, -1}, {"`", false, -1}, {`{`, false, -1}, {``, false, -1}, {"\x00", false, -1},
	} {
		if got := isPreResponse([]byte(c.data)); got != c.pre {
			t.Errorf("%q is a pre-response: %v", c.data, got)
		}
		if !c.pre {
			continue
		}
		d, ok := parsePreResponse([]byte(c.data))
		if ok != (c.want >= 0) || ok && d != c.want {
			t.Errorf("%q: got %v, %v, want %v", c.data, d, ok, c.want)
		}
	}
}

func FuzzPreResponse(f *testing.F) {
	f.Add([]byte(`timeout:"15000"`))
	f.Add([]byte(`a:"b" timeout:"1"`))
	f.Add([]byte(`a:"`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if d, ok := parsePreResponse(data); ok && (d < 0 || d > maxExtension) {
			t.Fatalf("%q: %v", data, d)
		}
	})
}

func FuzzReplyToken(f *testing.F) {
	f.Add("AAAABwAAAAIAAAADAAAABA", uint32(1), uint32(2), uint32(3), uint32(4))
	f.Add("", ^uint32(0), uint32(0), ^uint32(0), uint32(0))
	f.Fuzz(func(t *testing.T, token string, owner, made, slot, gen uint32) {
		parseReplyToken(token)
		text := string(appendReplyToken(nil, owner, made, slot, gen))
		if checkSubject(text) != nil || strings.Contains(text, ".") || len(text) != replyTokenLen {
			t.Fatalf("%q is not a subject token", text)
		}
		if r, ok := parseReplyToken(text); !ok || r.Owner != owner || r.made != made || r.slot != slot || r.gen != gen {
			t.Fatalf("%q is read as %+v, %v", text, r, ok)
		}
	})
}

// What passes is one literal subject for NATS, made of non-empty tokens.
func FuzzSubject(f *testing.F) {
	for _, s := range []string{"a", "a.b", "", ".", "a..b", "a b", "get.>", "é"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		bad := strings.ContainsAny(s, "*> \t\r\n\v\f\x7f")
		for _, token := range strings.Split(s, ".") {
			bad = bad || token == ""
		}
		for _, c := range []byte(s) {
			bad = bad || c < ' '
		}
		if got := checkSubject(s); (got != nil) != bad {
			t.Fatalf("%q: %v", s, got)
		}
	})
}

func TestControlLineCountsTheDigits(t *testing.T) {
	const reply = 50
	for size, digits := range map[int]int{0: 1, 9: 1, 10: 2, 99: 2, 100: 3, 1 << 20: 7} {
		fits := strings.Repeat("a", maxControlLine-2-reply-digits)
		if err := checkPublish(fits, publishLine(fits, reply, size), maxControlLine); err != nil {
			t.Errorf("size %d: %v", size, err)
		}
		if err := checkPublish(fits+"a", publishLine(fits+"a", reply, size), maxControlLine); err != ErrSubjectTooLong {
			t.Errorf("size %d, one more: %v", size, err)
		}
	}
}
