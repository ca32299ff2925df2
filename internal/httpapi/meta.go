package httpapi

import (
	"log/slog"
	"net/http"
	"slices"
	"time"

	"sluice/internal/res"
)

// protected are the fields that no service may set. The first group is the protocol's (RES.md
// section 4). The second one frames the message, which is the gateway's task: a length or coding
// other than the body's would break the connection.
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

// MergeMeta merges the meta of a later reply into that of earlier ones, and returns the result
// (RES.md section 4). Later fields replace earlier ones, but Set-Cookie and Vary add up. Protected
// fields are omitted. The last status counts. Either may be nil. dst is changed unless it is nil,
// src never.
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
			// Append to a copy: the existing slice may belong to a reply.
			have := dst[name]
			dst[name] = append(have[:len(have):len(have)], values...)
		case name == "Vary":
			// A service adds to Vary, and cannot remove what the gateway depends on.
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

// Ends reports whether a meta's status ends the HTTP request without further requests to services
// (RES.md section 4). m may be nil.
func Ends(m *res.Meta) bool { return m != nil && m.Status >= 300 && m.Status <= 599 }

// Direct builds the response that a meta asks for whose status ends the request: the meta's fields,
// and for 4xx and 5xx the service's error err, or if that is nil one that fits the status. rid is
// the resource that the service's reply named, if any: a redirection goes there unless the meta has
// a Location. It also serves a WebSocket upgrade that a service rejects. It returns false, and does
// nothing, if the meta does not end the request.
func (h *Handler) Direct(resp *Response, m *res.Meta, rid string, err *res.Error) bool {
	if !Ends(m) {
		return false
	}
	MergeHeader(resp.Header, m)
	if m.Status < 400 {
		if rid != "" && len(m.Header["Location"]) == 0 {
			resp.Header.Set("Location", h.Path(rid))
		}
		resp.Status = m.Status
		return true
	}
	if err == nil {
		err = StatusError(m.Status)
	}
	resp.FailAs(m.Status, err)
	return true
}

// Redirected returns m, with the path of rid as Location if it is a redirection without one. rid is
// the resource that the service's reply named. A Backend uses it for auth replies, whose resource
// it does not return.
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

// ended completes the response and returns true if the status of m ends the request. Otherwise it
// adds m's fields to the header. path is the request's, for the log.
func (h *Handler) ended(resp *Response, path string, m *res.Meta, rid string, err *res.Error) bool {
	if h.Direct(resp, m, rid, err) {
		return true
	}
	h.CheckStatus(m, path)
	MergeHeader(resp.Header, m)
	return false
}

// badStatusEvery is how often a status that is ignored is logged.
const badStatusEvery = time.Second

// CheckStatus logs a status that does not end a request, and is ignored (RES.md section 4). path is
// the request's.
func (h *Handler) CheckStatus(m *res.Meta, path string) {
	if m != nil && m.Status != 0 && !Ends(m) {
		h.badStatus.Log(h.o.Log, slog.LevelWarn, h.o.Clock.Now(), badStatusEvery,
			"status in the meta of a service's reply ignored: it must be 300 to 599", "status", m.Status, "path", path)
	}
}
