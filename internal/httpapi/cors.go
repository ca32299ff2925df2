package httpapi

import (
	"net/http"
	"strings"
)

// Origins decides which web pages may talk to the gateway (RES.md section 4). It is immutable and
// safe for concurrent use. The zero value allows all pages.
type Origins struct {
	list []string // lower case; empty: all are allowed
}

// NewOrigins returns the policy for a list of origins; an empty list and one with "*" allow all
// pages.
func NewOrigins(allow []string) Origins {
	var list []string
	for _, o := range allow {
		if o == "*" {
			return Origins{}
		}
		list = append(list, lowerASCII(o))
	}
	return Origins{list}
}

// Allow reports whether a request with this Origin field is allowed. A request without the field
// does not come from a page of another site, and "null" is what sandboxed and local pages send:
// both are allowed. It does not allocate.
func (o Origins) Allow(origin []byte) bool {
	if len(o.list) == 0 || len(origin) == 0 || string(origin) == "null" {
		return true
	}
	for _, allowed := range o.list {
		if equalASCII(allowed, origin) {
			return true
		}
	}
	return false
}

// Set sets the fields that tell a browser which pages may read the response, and reports whether a
// request from origin is allowed.
func (o Origins) Set(header http.Header, origin string) (allowed bool) {
	if len(o.list) == 0 {
		header["Access-Control-Allow-Origin"] = anyOrigin
		return true
	}
	o.Vary(header)
	switch {
	case origin == "" || origin == "null":
		return true
	case o.Allow([]byte(origin)):
		header.Set("Access-Control-Allow-Origin", origin)
		return true
	}
	header.Set("Access-Control-Allow-Origin", o.list[0])
	return false
}

// Vary sets Vary: Origin if responses depend on the request's origin. Every response needs it, also
// one to a request without an origin: a cache would serve it to pages (RFC 9110 section 12.5.5).
func (o Origins) Vary(header http.Header) {
	if len(o.list) > 0 {
		header["Vary"] = varyOrigin
	}
}

// Lines returns what Vary sets as complete field lines, for responses built without an http.Header.
func (o Origins) Lines() string {
	if len(o.list) == 0 {
		return ""
	}
	return "Vary: Origin\r\n"
}

// lowerASCII maps A to Z to lower case only: an origin's other characters have no case.
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

// CORS sets the fields that tell a browser which pages may read the response, and whether they may
// send credentials. It reports whether a request from origin is allowed (RES.md section 4).
func (h *Handler) CORS(header http.Header, origin string) (allowed bool) {
	live := h.live.Load()
	if h.o.HeaderAuth || live.Cookies {
		header["Access-Control-Allow-Credentials"] = credentials
	}
	return live.origins.Set(header, origin)
}

// Origins returns the handler's origin policy.
func (h *Handler) Origins() Origins { return h.live.Load().origins }
