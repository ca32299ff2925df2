package httpapi

import (
	"net/http"
	"strings"
)

// originList is the list of allowed origins in lower case, nil if all are.
func originList(allow []string) []string {
	var list []string
	for _, o := range allow {
		if o == "*" {
			return nil
		}
		list = append(list, lowerASCII(o))
	}
	return list
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

// CORS sets the fields that tell a browser which pages may read the answer, and tells whether a request from origin may
// go on (RES.md section 4). No origin, or "null" as of sandboxed and local pages, is allowed.
func (h *Handler) CORS(header http.Header, origin string) (allowed bool) {
	if h.o.HeaderAuth {
		header["Access-Control-Allow-Credentials"] = credentials
	}
	switch {
	case h.origins == nil:
		header["Access-Control-Allow-Origin"] = anyOrigin
		return true
	case origin == "" || origin == "null":
		return true
	}
	header.Set("Vary", "Origin")
	lower := lowerASCII(origin)
	for _, o := range h.origins {
		if o == lower {
			header.Set("Access-Control-Allow-Origin", origin)
			return true
		}
	}
	header.Set("Access-Control-Allow-Origin", h.origins[0])
	return false
}
