package gateway

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

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

// checkOrigins reports what is wrong with an allowOrigin setting.
func checkOrigins(setting string) error {
	all := strings.Split(setting, ";")
	if slices.Contains(all, "*") {
		if len(all) > 1 {
			return errors.New("* already means every origin: write either * or a list")
		}
		return nil
	}
	for _, s := range all {
		u, err := url.Parse(s)
		if err != nil || u.Scheme == "" || u.Host == "" || lowerASCII(s) != lowerASCII(u.Scheme+"://"+u.Host) {
			return fmt.Errorf("%q is not an origin: write * or <scheme>://<host>[:<port>], several separated by ;", s)
		}
	}
	return nil
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
