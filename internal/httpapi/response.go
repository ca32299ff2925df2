package httpapi

import (
	"crypto/sha256"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"sluice/internal/intern"
)

// Query is what a request's head says, whichever server has read it.
type Query struct {
	Method   string
	Path     string // escaped, as url.URL's EscapedPath gives it
	RawQuery string

	// Fields of the header; nil if they are absent.
	Origin         string
	Accept         []string
	AcceptEncoding []string
	IfNoneMatch    []string
	RequestHeaders []string // Access-Control-Request-Headers

	Interned *intern.Cache // has the resource IDs of earlier requests; may be nil
}

// queryOf returns the query of a request on net/http.
func queryOf(r *http.Request) Query {
	return Query{
		Method: r.Method, Path: r.URL.EscapedPath(), RawQuery: r.URL.RawQuery,
		Origin:         r.Header.Get("Origin"),
		Accept:         r.Header["Accept"],
		AcceptEncoding: r.Header["Accept-Encoding"],
		IfNoneMatch:    r.Header["If-None-Match"],
		RequestHeaders: r.Header["Access-Control-Request-Headers"],
	}
}

// Response is an HTTP response being built. Its content is the same for every server that sends it:
// net/http, with [Response.Send], or another, with [Response.AppendHead]. It has one user at a
// time.
type Response struct {
	Header http.Header // set by the caller, not nil; may be the http.ResponseWriter's own
	Status int         // 0: undecided
	Body   []byte      // that of the GET if the request is a HEAD; valid until Free
	Shared bool        // Body is immutable, and stays valid after Free

	sum    [sha256.Size]byte // of Body without a content coding, if summed
	summed bool
	sized  bool // Content-Length is sent also for HEAD and for an empty Body
	stream bool // frames follow the head until the connection closes: there is no length
	buffer *buffer
	packer *compressor
	coding coding // of packer

	tags *tagMemo // of the user's responses; may be nil
}

// NewResponse returns a response that can be used again, with Reset.
func NewResponse() Response { return Response{Header: make(http.Header), tags: new(tagMemo)} }

// Reset frees the response, and makes it an empty one.
func (resp *Response) Reset() {
	resp.Free()
	clear(resp.Header)
	*resp = Response{Header: resp.Header, tags: resp.tags}
}

// Free releases the memory that Body may be part of, unless it is Shared.
func (resp *Response) Free() {
	if resp.buffer != nil {
		resp.buffer.free()
	}
	if resp.packer != nil {
		resp.packer.free(resp.coding)
	}
	resp.buffer, resp.packer = nil, nil
}

// JSON makes body, complete JSON text that is immutable from then on, the response with a status.
func (resp *Response) JSON(status int, body []byte) {
	resp.Header["Content-Type"] = typeJSON
	resp.Status, resp.Body, resp.Shared, resp.sized = status, body, true, true
}

// Send writes the response with net/http. It ignores write errors: the client has gone.
func (resp *Response) Send(w http.ResponseWriter, method string) {
	resp.sendHead(w)
	if method != http.MethodHead && len(resp.Body) > 0 {
		_, _ = w.Write(resp.Body)
	}
}

func (resp *Response) sendHead(w http.ResponseWriter) {
	if resp.sized {
		resp.Header["Content-Length"] = []string{strconv.Itoa(len(resp.Body))}
	}
	w.WriteHeader(resp.Status)
}

// AppendHead appends the response's head as net/http would write it, with the fields in
// alphabetical order. date is the value of Date; keep says that the connection stays open after
// the response.
func (resp *Response) AppendHead(dst []byte, method string, date []byte, keep bool) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(resp.Status), 10)
	dst = append(dst, ' ')
	if text := http.StatusText(resp.Status); text != "" {
		dst = append(dst, text...)
	} else {
		dst = strconv.AppendInt(append(dst, "status code "...), int64(resp.Status), 10)
	}
	dst = append(dst, "\r\n"...)
	dst = AppendFields(dst, resp.Header)
	if _, ok := resp.Header["Date"]; !ok {
		dst = append(append(append(dst, "Date: "...), date...), "\r\n"...)
	}
	hasBody := resp.Status >= 200 && resp.Status != http.StatusNoContent && resp.Status != http.StatusNotModified
	if hasBody && !resp.stream && (resp.sized || method != http.MethodHead) {
		dst = append(dst, "Content-Length: "...)
		dst = append(strconv.AppendInt(dst, int64(len(resp.Body)), 10), "\r\n"...)
	}
	if !keep {
		dst = append(dst, "Connection: close\r\n"...)
	}
	return append(dst, "\r\n"...)
}

// AppendFields appends a header as complete field lines, in alphabetical order. Fields set by
// services are made safe as net/http does it: invalid names are omitted, line ends become spaces.
func AppendFields(dst []byte, header http.Header) []byte {
	var few [16]string
	names := few[:0]
	for name := range header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if !isToken(name) {
			continue
		}
		for _, v := range header[name] {
			dst = append(append(dst, name...), ": "...)
			if v != "" && (v[0] <= ' ' || v[len(v)-1] <= ' ') {
				v = strings.Trim(v, " \t\r\n")
			}
			start := len(dst)
			dst = append(dst, v...)
			for i, c := range dst[start:] {
				if c == '\r' || c == '\n' {
					dst[start+i] = ' '
				}
			}
			dst = append(dst, "\r\n"...)
		}
	}
	return dst
}

// isToken reports whether s is a valid field name (RFC 9110 section 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		alnum := '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z' && c < 0x80
		if !alnum && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}
