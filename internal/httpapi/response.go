package httpapi

import (
	"crypto/sha256"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Query is what a request says, wherever it came from.
type Query struct {
	Method   string
	Path     string // escaped, as url.URL's EscapedPath gives it
	RawQuery string

	// Fields of the header; nil if they are not there.
	Origin         string
	Accept         []string
	AcceptEncoding []string
	IfNoneMatch    []string
	RequestHeaders []string // Access-Control-Request-Headers
}

// queryOf is the query of a request on net/http.
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

// Answer is an HTTP response being encoded. What is in it is the same for every server that sends
// it: net/http's, by [Handler.ServeHTTP], or another, by [Answer.AppendHead].
type Answer struct {
	Header http.Header // there from the beginning; perhaps the server's own
	Status int         // 0: not decided yet
	Body   []byte      // of the answer to a GET, if the request is a HEAD; valid until Free
	Shared bool        // Body is immutable, and valid after Free as well

	sum    [sha256.Size]byte // of Body without a content coding, if summed
	summed bool
	sized  bool // Content-Length is sent also for HEAD and for an empty Body
	stream bool // frames follow the head until the connection closes: there is no length
	buffer *buffer
	packer *compressor
	coding coding // of packer
}

// Free gives memory back that Body may lie in.
func (a *Answer) Free() {
	if a.buffer != nil {
		a.buffer.free()
	}
	if a.packer != nil {
		a.packer.free(a.coding)
	}
	a.buffer, a.packer = nil, nil
}

// JSON makes body, complete JSON text that is immutable from then on, the response with a status.
func (a *Answer) JSON(status int, body []byte) {
	a.Header["Content-Type"] = typeJSON
	a.Status, a.Body, a.Shared, a.sized = status, body, true, true
}

// Send sends the answer by net/http. It ignores errors of writing: the client has gone.
func (a *Answer) Send(w http.ResponseWriter, method string) {
	if a.sized {
		a.Header["Content-Length"] = []string{strconv.Itoa(len(a.Body))}
	}
	w.WriteHeader(a.Status)
	if method != http.MethodHead && len(a.Body) > 0 {
		_, _ = w.Write(a.Body)
	}
}

// AppendHead appends the response's head as net/http would write it, with the fields in
// alphabetical order. date is the value of Date; keep says that the connection stays open after
// the response.
func (a *Answer) AppendHead(dst []byte, method string, date []byte, keep bool) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(a.Status), 10)
	dst = append(dst, ' ')
	if text := http.StatusText(a.Status); text != "" {
		dst = append(dst, text...)
	} else {
		dst = strconv.AppendInt(append(dst, "status code "...), int64(a.Status), 10)
	}
	dst = append(dst, "\r\n"...)
	dst = AppendFields(dst, a.Header)
	if _, ok := a.Header["Date"]; !ok {
		dst = append(append(append(dst, "Date: "...), date...), "\r\n"...)
	}
	hasBody := a.Status >= 200 && a.Status != http.StatusNoContent && a.Status != http.StatusNotModified
	if hasBody && !a.stream && (a.sized || method != http.MethodHead) {
		dst = append(dst, "Content-Length: "...)
		dst = append(strconv.AppendInt(dst, int64(len(a.Body)), 10), "\r\n"...)
	}
	if !keep {
		dst = append(dst, "Connection: close\r\n"...)
	}
	return append(dst, "\r\n"...)
}

// AppendFields appends a header as complete field lines, in alphabetical order. What services say
// is made safe as net/http does it: names that are none are left out, line ends become spaces.
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
			v = strings.Trim(v, " \t\r\n")
			for i := range len(v) {
				c := v[i]
				if c == '\r' || c == '\n' {
					c = ' '
				}
				dst = append(dst, c)
			}
			dst = append(dst, "\r\n"...)
		}
	}
	return dst
}

// isToken tells whether s can be the name of a field (RFC 9110 section 5.6.2).
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
