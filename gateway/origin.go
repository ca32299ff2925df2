package gateway

import "strings"

// origins decides which web pages may talk to the gateway (allowOrigin, RES.md
// section 4). Immutable; safe for concurrent use.
type origins struct {
	any  bool
	list []string // as configured, lower case
}

// newOrigins reads a valid allowOrigin setting.
func newOrigins(setting string) origins {
	if setting == "*" {
		return origins{any: true}
	}
	return origins{list: strings.Split(lowerASCII(setting), ";")}
}

// allows reports whether a request with this Origin header may go on. A request
// without the header does not come from a page of another site, and "null" is
// what sandboxed and local pages send; both are allowed. It does not allocate.
func (o origins) allows(origin []byte) bool {
	if o.any || len(origin) == 0 || string(origin) == "null" {
		return true
	}
	for _, allowed := range o.list {
		if equalASCII(allowed, origin) {
			return true
		}
	}
	return false
}

// lowerASCII changes A to Z only: an origin's other characters have no case.
func lowerASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// equalASCII compares lower, which has no upper-case ASCII letters, with b.
func equalASCII(lower string, b []byte) bool {
	if len(lower) != len(b) {
		return false
	}
	for i := range b {
		c := b[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}
