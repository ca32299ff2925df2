package res

import "strings"

// Pattern selects resources in system.reset: a resource name with wildcards. A part '*' matches any
// one part, a last part '>' one or more parts (RES.md 3.2). Pattern is comparable and immutable;
// the zero Pattern matches nothing.
type Pattern struct {
	s       string
	literal int // length of the prefix before the first wildcard; len(s) without one
}

// ParsePattern parses a pattern. ok is false if s has an empty part, a character that is not valid
// in a name, a wildcard that is not a whole part, or '>' before the end.
func ParsePattern(s string) (p Pattern, ok bool) {
	literal := len(s)
	for at := 0; ; {
		part, _, more := strings.Cut(s[at:], ".")
		switch {
		case part == "*" || part == ">" && !more:
			literal = min(literal, at)
		case !ValidPart(part):
			return Pattern{}, false
		}
		if !more {
			return Pattern{s: s, literal: literal}, true
		}
		at += len(part) + 1
	}
}

// String returns the text that ParsePattern parsed.
func (p Pattern) String() string { return p.s }

// Wild reports whether the pattern has a wildcard. Without one it matches only the name with the
// same text.
func (p Pattern) Wild() bool { return p.literal < len(p.s) }

// Match reports whether a valid resource name matches. It does not allocate.
func (p Pattern) Match(name string) bool {
	if p.s == "" || !strings.HasPrefix(name, p.s[:p.literal]) {
		return false
	}
	if !p.Wild() {
		return len(name) == len(p.s)
	}
	// The literal prefix ends at the start of a part, in the pattern and so in the name.
	rest, name := p.s[p.literal:], name[p.literal:]
	for {
		want, wantRest, wantMore := strings.Cut(rest, ".")
		if want == ">" {
			return name != ""
		}
		have, haveRest, haveMore := strings.Cut(name, ".")
		if have == "" || want != "*" && want != have || wantMore != haveMore {
			return false
		}
		if !wantMore {
			return true
		}
		rest, name = wantRest, haveRest
	}
}
