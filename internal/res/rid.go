package res

import "strings"

// partChars marks the characters of a part of a name: printable ASCII without the dot between parts, the wildcards of
// patterns and the mark of a query.
var partChars = func() (t [256]bool) {
	for c := '!'; c <= '~'; c++ {
		t[c] = !strings.ContainsRune(".*>?", c)
	}
	return t
}()

// ValidPart tells whether s can be one part of a resource name, or the method part of a request (RES.md section 1): not
// empty, printable ASCII without '.', '*', '>' and '?'.
func ValidPart(s string) bool {
	for i := range len(s) {
		if !partChars[s[i]] {
			return false
		}
	}
	return len(s) > 0
}

// ValidName tells whether s is a resource name: parts joined by dots, without a query (RES.md section 1).
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

// ValidRID tells whether s is a resource ID: a name and optionally '?' with a query, in which everything is allowed
// (RES.md section 1).
func ValidRID(rid string) bool {
	name, _ := SplitRID(rid)
	return ValidName(name)
}

// SplitRID cuts a resource ID at its first '?', which belongs to neither half. A resource ID with an empty query and one
// without any are told apart by nobody: both name the plain resource.
func SplitRID(rid string) (name, query string) {
	name, query, _ = strings.Cut(rid, "?")
	return name, query
}

const cidTag = "{cid}"

// ExpandCID puts the connection's ID in place of each {cid}: the form that services see (RES.md section 1). It
// allocates only if there is one.
func ExpandCID(rid, cid string) string { return strings.ReplaceAll(rid, cidTag, cid) }
