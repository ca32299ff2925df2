package httpapi

import (
	"net/http"
	"slices"

	"sluice/internal/res"
)

// protected are the fields that no service sets. The first ones are the protocol's rule (RES.md
// section 4). The others frame the message, which the gateway does: a length or a coding that is
// not the body's would break the connection.
var protected = map[string]bool{
	"Content-Type":                     true,
	"Access-Control-Allow-Origin":      true,
	"Access-Control-Allow-Credentials": true,
	"Sec-Websocket-Extensions":         true,
	"Sec-Websocket-Protocol":           true,

	"Connection":           true,
	"Content-Encoding":     true,
	"Content-Length":       true,
	"Keep-Alive":           true,
	"Sec-Websocket-Accept": true,
	"Trailer":              true,
	"Transfer-Encoding":    true,
	"Upgrade":              true,
}

// MergeMeta adds what a later answer says to what earlier ones said, and returns the result (RES.md
// section 4): later fields replace earlier ones but Set-Cookie and Vary, which add up; protected
// ones are left out; a later status counts. Either may be nil. dst is changed unless it is nil, src
// never.
func MergeMeta(dst, src *res.Meta) *res.Meta {
	if src == nil {
		return dst
	}
	if dst == nil {
		dst = &res.Meta{}
	}
	if src.Status != 0 {
		dst.Status = src.Status
	}
	if dst.Header == nil && len(src.Header) > 0 {
		dst.Header = make(map[string][]string, len(src.Header))
	}
	MergeHeader(dst.Header, src)
	return dst
}

// MergeHeader adds the fields of m to a response's header by the rules of MergeMeta. m may be nil.
func MergeHeader(dst http.Header, m *res.Meta) {
	if m == nil {
		return
	}
	for name, values := range m.Header {
		switch {
		case protected[name]:
		case name == "Set-Cookie":
			// Appended to a copy, if at all: the slice there is may be an answer's own.
			have := dst[name]
			dst[name] = append(have[:len(have):len(have)], values...)
		case name == "Vary":
			// What the gateway's own part of the response depends on stays true.
			have := dst[name]
			for _, v := range values {
				if !slices.Contains(have, v) {
					have = append(have[:len(have):len(have)], v)
				}
			}
			dst[name] = have
		default:
			dst[name] = values
		}
	}
}

// Ends tells whether a status ends the request without further ones (RES.md section 4). m may be
// nil.
func Ends(m *res.Meta) bool { return m != nil && m.Status >= 300 && m.Status <= 599 }

// Direct makes the answer that a meta whose status ends the request stands for: the meta's fields,
// and for 4xx and 5xx the service's error err, or if that is nil one that fits the status. rid is
// the resource that the service's reply named, if it did: a redirection goes there unless the meta
// has a Location. It also serves a WebSocket upgrade that a service rejects. It returns false, and
// does nothing, if the meta does not end the request.
func (h *Handler) Direct(a *Answer, m *res.Meta, rid string, err *res.Error) bool {
	if !Ends(m) {
		return false
	}
	MergeHeader(a.Header, m)
	if m.Status < 400 {
		if rid != "" && len(m.Header["Location"]) == 0 {
			a.Header.Set("Location", h.Path(rid))
		}
		a.Status = m.Status
		return true
	}
	if err == nil {
		err = StatusError(m.Status)
	}
	a.FailAs(m.Status, err)
	return true
}

// Redirected is m with the path of the resource that its answer named as the place to go to, if its
// status is a redirection that says no other: what a Backend returns for an auth or access answer,
// whose resource nobody else sees.
func (h *Handler) Redirected(m *res.Meta, rid string) *res.Meta {
	if m == nil || m.Status < 300 || m.Status > 399 || rid == "" || len(m.Header["Location"]) > 0 {
		return m
	}
	c := MergeMeta(nil, m)
	if c.Header == nil {
		c.Header = make(map[string][]string, 1)
	}
	c.Header["Location"] = []string{h.Path(rid)}
	return c
}

// ended answers the request if the status of meta ends it; else it puts meta's fields into the
// header. path is the request's, for the log.
func (h *Handler) ended(a *Answer, path string, m *res.Meta, rid string, err *res.Error) bool {
	if h.Direct(a, m, rid, err) {
		return true
	}
	h.CheckStatus(m, path)
	MergeHeader(a.Header, m)
	return false
}

// CheckStatus logs a status that does not end a request, and so means nothing (RES.md section 4).
// path is the request's.
func (h *Handler) CheckStatus(m *res.Meta, path string) {
	if m != nil && m.Status != 0 && !Ends(m) {
		h.o.Log.Warn("a service's answer has a status that means nothing: only 300 to 599 do", "status", m.Status, "path", path)
	}
}
