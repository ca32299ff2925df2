package res

import (
	"slices"
	"strings"
	"testing"
)

func TestParsePattern(t *testing.T) {
	for _, c := range []struct {
		s, literal string
		wild       bool
	}{
		{"a", "a", false},
		{"library.book", "library.book", false},
		{"$a.b<", "$a.b<", false},
		{">", "", true},
		{"*", "", true},
		{"a.>", "a.", true},
		{"a.*", "a.", true},
		{"a.*.c", "a.", true},
		{"a.b.*.>", "a.b.", true},
		{"*.b", "", true},
		{"*.*", "", true},
	} {
		p, ok := ParsePattern(c.s)
		if !ok || p.s[:p.literal] != c.literal || p.Wild() != c.wild || p.String() != c.s {
			t.Errorf("ParsePattern(%q) = %+v, %v", c.s, p, ok)
		}
	}
	for _, s := range []string{
		"", ".", ".a", "a.", "a..b", "*a", "a*", "a.*b", "a.b*", "a.**.b", ">a", "a>", "a.>b", "a.>.b", ">.a", "a.>.",
		"a.b?", "a. .b", "a.\x7f.b", "rät", "a\xff", "a.?",
	} {
		if p, ok := ParsePattern(s); ok || p != (Pattern{}) {
			t.Errorf("ParsePattern(%q) = %+v, %v", s, p, ok)
		}
	}
}

func TestPatternMatch(t *testing.T) {
	for _, c := range []struct {
		pattern string
		match   []string
		not     []string
	}{
		{"a", []string{"a"}, []string{"a.b", "ab", "b", ""}},
		{"a.b", []string{"a.b"}, []string{"a", "a.b.c", "a.bc", "a.c", "a."}},
		{">", []string{"a", "a.b", "a.b.c"}, []string{""}},
		{"a.>", []string{"a.b", "a.b.c"}, []string{"a", "ab", "b.a", "a."}},
		{"a.b.>", []string{"a.b.c", "a.b.c.d"}, []string{"a.b", "a.bb.c"}},
		{"*", []string{"a", "abc"}, []string{"a.b", ""}},
		{"a.*", []string{"a.b", "a.bcd"}, []string{"a", "a.b.c", "b.a"}},
		{"*.b", []string{"a.b", "abc.b"}, []string{"a", "a.bc", "a.b.c", "b"}},
		{"a.*.c", []string{"a.b.c", "a.x.c"}, []string{"a.c", "a.b", "a.b.d", "a.b.c.d", "a.b.b.c"}},
		{"*.*", []string{"a.b"}, []string{"a", "a.b.c"}},
		{"a.*.>", []string{"a.b.c", "a.b.c.d"}, []string{"a.b", "a"}},
		{"*.a.>", []string{"a.a.a", "b.a.c"}, []string{"a.a", "a.b.c"}},
	} {
		p, ok := ParsePattern(c.pattern)
		if !ok {
			t.Fatalf("ParsePattern(%q)", c.pattern)
		}
		for _, n := range c.match {
			if !p.Match(n) {
				t.Errorf("%q does not match %q", c.pattern, n)
			}
		}
		for _, n := range c.not {
			if p.Match(n) {
				t.Errorf("%q matches %q", c.pattern, n)
			}
		}
	}
	for _, n := range []string{"", "a", "a.b"} {
		if (Pattern{}).Match(n) {
			t.Errorf("the zero Pattern matches %q", n)
		}
	}
}

// FuzzPattern compares Match with a direct implementation of the rule, part by part.
func FuzzPattern(f *testing.F) {
	for _, s := range [][2]string{{"a.*.c", "a.b.c"}, {"a.>", "a.b"}, {">", "x"}, {"a.b", "a.b"}, {"*.*.>", "a.b"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		p, ok := ParsePattern(pattern)
		ps := strings.Split(pattern, ".")
		want := true
		for i, part := range ps {
			want = want && (ValidPart(part) || part == "*" || part == ">" && i == len(ps)-1)
		}
		if ok != want {
			t.Fatalf("ParsePattern(%q) = %v", pattern, ok)
		}
		if !ok || !ValidName(name) {
			p.Match(name)
			return
		}
		ns := strings.Split(name, ".")
		if last := len(ps) - 1; ps[last] == ">" && len(ns) > last {
			ps, ns = ps[:last], ns[:last]
		}
		want = slices.EqualFunc(ps, ns, func(a, b string) bool { return a == "*" || a == b })
		if p.Match(name) != want {
			t.Fatalf("%q matches %q: %v", pattern, name, !want)
		}
		if want && !strings.HasPrefix(name, p.s[:p.literal]) {
			t.Fatalf("%q matches %q, which does not begin with %q", pattern, name, p.s[:p.literal])
		}
	})
}

func BenchmarkPatternMatch(b *testing.B) {
	p, _ := ParsePattern("library.*.book.>")
	for b.Loop() {
		p.Match("library.main.book.1234")
	}
}
