package res

import "strings"

// partChars is the set of characters in a part of a name: printable ASCII without the separator
// '.', the wildcards '*' and '>', and '?', which begins a query.
var partChars = func() (t [256]bool) {
	for c := '!'; c <= '~'; c++ {
		t[c] = !strings.ContainsRune(".*>?", c)
	}
	return t
}()

// ValidPart reports whether s is valid as one part of a resource name or as the method part of a
// request (RES.md section
// 1): not empty, printable ASCII without '.', '*', '>' and '?'.
func ValidPart(s string) bool {
	for i := range len(s) {
		if !partChars[s[i]] {
			return false
		}
	}
	return len(s) > 0
}

// ValidName reports whether s is a resource name: parts joined by dots, without a query (RES.md
// section 1).
func ValidName(s string) bool {
	start := true // at the start of a part
	for i := range len(s) {
		switch c := s[i]; {
		case partChars[c]:
			start = false
		case c == '.' && !start:
			start = true
		default:
			return false
		}
	}
	return !start
}

// ValidRID reports whether s is a resource ID: a name, optionally followed by '?' and a query of
// any characters (RES.md section 1).
func ValidRID(rid string) bool {
	name, _ := SplitRID(rid)
	return ValidName(name)
}

// SplitRID splits a resource ID at its first '?', which is in neither result. A resource ID with an
// empty query is equivalent to one without a query.
func SplitRID(rid string) (name, query string) {
	name, query, _ = strings.Cut(rid, "?")
	return name, query
}

const cidTag = "{cid}"

// ExpandCID replaces each {cid} with the connection's ID, which gives the form for services (RES.md
// section 1). It allocates only if rid has a {cid}.
func ExpandCID(rid, cid string) string { return strings.ReplaceAll(rid, cidTag, cid) }
