package res

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestRID(t *testing.T) {
	for _, c := range []struct {
		rid  string
		ok   bool
		name string
		q    string
	}{
		{"a", true, "a", ""},
		{"library.books", true, "library.books", ""},
		{"library.book.23", true, "library.book.23", ""},
		{"a._b_.$c", true, "a._b_.$c", ""},
		{"a.<b~!", true, "a.<b~!", ""},
		{`a.\b"c`, true, `a.\b"c`, ""},
		{"user.{cid}", true, "user.{cid}", ""},
		{"a.b?", true, "a.b", ""},
		{"a.b?x=1&y=2", true, "a.b", "x=1&y=2"},
		{"a.b?x=.y.", true, "a.b", "x=.y."},
		{"a.b?x=*&>?", true, "a.b", "x=*&>?"},
		{"a.b?ö \t\x00", true, "a.b", "ö \t\x00"},
		{"", false, "", ""},
		{".", false, ".", ""},
		{".a", false, ".a", ""},
		{"a.", false, "a.", ""},
		{"a..b", false, "a..b", ""},
		{"?", false, "", ""},
		{"?x=1", false, "", "x=1"},
		{"a.?x=1", false, "a.", "x=1"},
		{".a?x", false, ".a", "x"},
		{"a b", false, "a b", ""},
		{"a\tb", false, "a\tb", ""},
		{"a\nb", false, "a\nb", ""},
		{"a\rb?q", false, "a\rb", "q"},
		{"a\x7fb", false, "a\x7fb", ""},
		{"a\x00b", false, "a\x00b", ""},
		{"bücher", false, "bücher", ""},
		{"a\ufffdb", false, "a\ufffdb", ""},
		{"a\xffb", false, "a\xffb", ""},
		{"a.*", false, "a.*", ""},
		{"a.*.b", false, "a.*.b", ""},
		{"a*b", false, "a*b", ""},
		{"a.>", false, "a.>", ""},
		{">", false, ">", ""},
		{"a>b", false, "a>b", ""},
	} {
		if got := ValidRID(c.rid); got != c.ok {
			t.Errorf("ValidRID(%q) = %v", c.rid, got)
		}
		name, q := SplitRID(c.rid)
		if name != c.name || q != c.q {
			t.Errorf("SplitRID(%q) = %q, %q", c.rid, name, q)
		}
		if got := ValidName(name); got != c.ok {
			t.Errorf("ValidName(%q) = %v", name, got)
		}
		if strings.Contains(c.rid, "?") && ValidName(c.rid) {
			t.Errorf("ValidName(%q) takes a query", c.rid)
		}
	}
}

func TestPart(t *testing.T) {
	for s, want := range map[string]bool{
		"set": true, "$x_~": true, "{cid}": true,
		"": false, "a.b": false, "a?": false, "*": false, ">": false, "a*": false, "a b": false, "methöd": false, "\x7f": false,
	} {
		if got := ValidPart(s); got != want {
			t.Errorf("ValidPart(%q) = %v", s, got)
		}
	}
}

func TestExpandCID(t *testing.T) {
	for _, c := range [][2]string{
		{"a.b", "a.b"},
		{"user.{cid}", "user.c1"},
		{"{cid}.x.{cid}?f={cid}", "c1.x.c1?f=c1"},
		{"a{cid}b", "ac1b"},
		{"{CID}.{cid", "{CID}.{cid"},
	} {
		if got := ExpandCID(c[0], "c1"); got != c[1] {
			t.Errorf("ExpandCID(%q) = %q", c[0], got)
		}
	}
	if n := testing.AllocsPerRun(100, func() { _ = ExpandCID("library.books?from=1", "c1") }); n != 0 {
		t.Errorf("ExpandCID without a cid allocates %v times", n)
	}
}

func TestSubject(t *testing.T) {
	for s, want := range map[string]bool{
		"_INBOX.x1.Y2":  true,
		"query.books.1": true,
		"a":             true,
		"größe.日本":      true,
		"a?b":           true,
		"":              false,
		".":             false,
		".a":            false,
		"a.":            false,
		"a..b":          false,
		"a b":           false,
		"a\tb":          false,
		"a\r\nPUB x":    false,
		"a\x00":         false,
		"a\x7f":         false,
		"a\u0085b":      false, // a control character above ASCII
		"a\u00a0b":      false, // white space above ASCII
		"a\u2028b":      false,
		"a\xffb":        false,
		"*":             false,
		"a.*":           false,
		"a.>":           false,
		">":             false,
		"a.b*":          false,
		"a.>b":          false,
		"a\ufffdb":      true, // a character like any other
	} {
		if got := ValidSubject(s); got != want {
			t.Errorf("ValidSubject(%q) = %v", s, got)
		}
	}
}

// FuzzRID holds that a valid resource name is always a valid NATS subject, alone and behind the
// prefixes of requests, and that nothing but the query may leave printable ASCII.
func FuzzRID(f *testing.F) {
	for _, s := range []string{"a.b?c", "", "a..b", "a.*", "{cid}", "a\xff", "ö"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, query := SplitRID(s)
		if !strings.HasPrefix(s, name) || !strings.HasSuffix(s, query) || len(s)-len(name)-len(query) > 1 {
			t.Fatalf("SplitRID(%q) = %q, %q", s, name, query)
		}
		want := true
		for part := range strings.SplitSeq(name, ".") {
			want = want && ValidPart(part)
		}
		if ValidRID(s) != want || ValidName(name) != want {
			t.Fatalf("%q: valid %v, its parts %v", s, ValidRID(s), want)
		}
		if want && (!ValidSubject(name) || !ValidSubject("call."+name+".set")) {
			t.Fatalf("name %q is no subject", name)
		}
		if ValidSubject(s) && (!utf8.ValidString(s) || strings.ContainsAny(s, " \t\r\n*>")) {
			t.Fatalf("subject %q", s)
		}
	})
}
