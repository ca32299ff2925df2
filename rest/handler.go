package rest

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"sluice/res"
	"sluice/session"
)

// Backend does what a request asks for. Its methods are called on the request's own goroutine and block until there is
// an answer or the request's context has ended. The meta that they return is that of all answers in their order, merged
// (see [MergeMeta]), with that of header authentication first. A meta whose status ends the request ([Ends]) comes
// without a result; an error may come with it.
type Backend interface {
	// Get asks for access and for the resource with all that it refers to.
	Get(r *http.Request, rid string) (*session.Graph, *res.Meta, *res.Error)
	// Call asks for access and calls the method. params are raw compact JSON, nil if there are none, and may be kept.
	Call(r *http.Request, rid, method string, params []byte) (res.CallResult, *res.Meta, *res.Error)
	// Stream asks for access and subscribes to the resource. It returns once it has sent the resource set as the
	// first frame, or has failed. The stream then lasts until the backend closes the sink or the request's context
	// ends, upon which the backend must give the subscription up.
	Stream(r *http.Request, rid string, sink Sink) (*res.Meta, *res.Error)
}

// Options are a handler's settings. Zero values mean the defaults.
type Options struct {
	APIPath  string // the path that resources lie below; "/api/"
	Encoding string // see ValidEncoding; "json"

	// The call methods that PUT, DELETE and PATCH stand for; empty: that HTTP method is not allowed.
	PUT, DELETE, PATCH string

	AllowOrigin []string // origins of pages that may read answers; none or "*": all
	HeaderAuth  bool     // whether header authentication is on, so that pages may send credentials

	MaxBody       int // bytes of a request's body; 1 MiB
	MaxAnswer     int // bytes of a resource with all that it refers to; 32 MiB
	CompressAbove int // bytes from which on an answer is compressed for clients that want it; 1400; negative: never

	Heartbeat      time.Duration // silence on a stream before a comment is sent; 15 s
	StreamWrite    time.Duration // for one write to a stream's client; 10 s
	StreamMessages int           // messages that may wait for a stream's client; 256
	StreamBytes    int           // bytes of those, but for a single message, which may be larger; 4 MiB

	Metrics *Metrics     // nil: not of interest
	Log     *slog.Logger // nil: none
}

// Defaults of Options.
const (
	DefaultAPIPath        = "/api/"
	DefaultMaxBody        = 1 << 20
	DefaultMaxAnswer      = 32 << 20
	DefaultCompressAbove  = 1400
	DefaultHeartbeat      = 15 * time.Second
	DefaultStreamWrite    = 10 * time.Second
	DefaultStreamMessages = 256
	DefaultStreamBytes    = 4 << 20
)

// Metrics counts what a handler does. Any goroutine may read it.
type Metrics struct {
	Streams      atomic.Int64  // streams there are now
	StreamsCut   atomic.Uint64 // streams ended because their client did not read
	NotModified  atomic.Uint64 // answered with 304
	Compressed   atomic.Uint64 // answers sent compressed
	BodyTooLarge atomic.Uint64 // requests refused for the length of their body
	TooLarge     atomic.Uint64 // resources refused for the length of their encoding
}

// Handler serves everything below the API path. It is safe for concurrent use.
type Handler struct {
	// Fixed after New.
	o       Options
	backend Backend
	prefix  string // of escaped paths; begins and ends with a slash
	flat    bool   // encoding jsonflat
	origins []string
	methods map[string]string // call methods by HTTP method
	allow   []string          // the value of Allow: all methods there are
}

// New makes a handler. Options must have been checked: an unknown encoding is a mistake in the program and panics.
func New(o Options, b Backend) *Handler {
	orDefault(&o.APIPath, DefaultAPIPath)
	orDefault(&o.Encoding, encodingJSON)
	orDefault(&o.MaxBody, DefaultMaxBody)
	orDefault(&o.MaxAnswer, DefaultMaxAnswer)
	orDefault(&o.CompressAbove, DefaultCompressAbove)
	orDefault(&o.Heartbeat, DefaultHeartbeat)
	orDefault(&o.StreamWrite, DefaultStreamWrite)
	orDefault(&o.StreamMessages, DefaultStreamMessages)
	orDefault(&o.StreamBytes, DefaultStreamBytes)
	if o.Metrics == nil {
		o.Metrics = new(Metrics)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if !ValidEncoding(o.Encoding) {
		panic("rest: unknown encoding " + o.Encoding)
	}
	path := "/" + strings.Trim(o.APIPath, "/") + "/"
	if path == "//" {
		path = "/"
	}
	h := &Handler{
		o: o, backend: b,
		prefix:  (&url.URL{Path: path}).EscapedPath(),
		flat:    strings.EqualFold(o.Encoding, encodingFlat),
		origins: originList(o.AllowOrigin),
		methods: map[string]string{},
	}
	allow := "GET, HEAD, OPTIONS, POST"
	for _, m := range [...]struct{ http, call string }{
		{http.MethodPut, o.PUT}, {http.MethodDelete, o.DELETE}, {http.MethodPatch, o.PATCH},
	} {
		if m.call != "" {
			h.methods[m.http] = m.call
			allow += ", " + m.http
		}
	}
	h.allow = []string{allow}
	return h
}

func orDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// Shared header values: net/http reads them only.
var (
	typeJSON = []string{"application/json; charset=utf-8"}
	noCache  = []string{"no-cache"}
)

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.EscapedPath()
	if r.RequestURI == "*" {
		w.Header().Set("Connection", "close")
		h.writeError(w, r, http.StatusBadRequest, res.ErrBadRequest)
		return
	}
	if !strings.HasPrefix(path, h.prefix) {
		h.writeError(w, r, http.StatusNotFound, res.ErrNotFound)
		return
	}
	allowed := h.CORS(w.Header(), r.Header.Get("Origin"))
	if r.Method == http.MethodOptions {
		// Also for a foreign origin: the browser sees from the header that it may not go on.
		h.options(w, r)
		return
	}
	if !allowed {
		h.fail(w, r, res.ErrForbiddenOrigin)
		return
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		rid, ok := h.RID(path, r.URL.RawQuery)
		switch {
		case !ok:
			h.fail(w, r, res.ErrNotFound)
		case r.Method == http.MethodGet && WantsStream(r.Header["Accept"]):
			h.stream(w, r, rid)
		default:
			h.get(w, r, rid)
		}
	case http.MethodPost:
		rid, method, ok := h.Method(path, r.URL.RawQuery)
		if !ok {
			h.fail(w, r, res.ErrNotFound)
			return
		}
		h.call(w, r, rid, method)
	default:
		method, mapped := h.methods[r.Method]
		rid, ok := h.RID(path, r.URL.RawQuery)
		switch {
		case !mapped:
			w.Header()["Allow"] = h.allow
			h.fail(w, r, res.ErrMethodNotAllowed)
		case !ok:
			h.fail(w, r, res.ErrNotFound)
		default:
			h.call(w, r, rid, method)
		}
	}
}

// options answers what a browser asks before it sends a request on behalf of another site's page.
func (h *Handler) options(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header["Allow"] = h.allow
	header["Access-Control-Allow-Methods"] = h.allow
	if asked := r.Header["Access-Control-Request-Headers"]; len(asked) > 0 {
		header.Set("Access-Control-Allow-Headers", strings.Join(asked, ", "))
	}
	w.WriteHeader(http.StatusOK)
}

// get answers GET and HEAD, which differ only in that the latter's body is not sent.
func (h *Handler) get(w http.ResponseWriter, r *http.Request, rid string) {
	g, meta, err := h.backend.Get(r, rid)
	if h.ended(w, r, meta, "", err) {
		return
	}
	if err == nil && g == nil {
		err = res.ErrInternal
	}
	if err != nil {
		h.fail(w, r, err)
		return
	}
	buf := buffers.Get().(*buffer)
	defer buf.free()
	body, err := h.encode(buf, g)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	header := w.Header()
	tag := header.Get("Etag") // a service's own wins
	if tag == "" {
		tag = entityTag(body)
		header["Etag"] = []string{tag}
	}
	h.cacheControl(header)
	if matchesTag(r.Header["If-None-Match"], tag) {
		h.o.Metrics.NotModified.Add(1)
		if h.compressible(body) {
			header.Add("Vary", "Accept-Encoding") // as the full answer would say
		}
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.writeJSON(w, r, http.StatusOK, body)
}

// cacheControl makes caches ask each time, since access is asked for each time: a copy may be used when the answer is
// 304. One that sets a cookie is nobody else's.
func (h *Handler) cacheControl(header http.Header) {
	if header["Cache-Control"] != nil {
		return // said by a service
	}
	header["Cache-Control"] = noCache
	if header["Set-Cookie"] != nil {
		header.Set("Cache-Control", "private, no-cache")
	}
}

// entityTag is a weak entity tag (RFC 9110 section 8.8.3): the content codings of one body share it.
func entityTag(body []byte) string {
	sum := sha256.Sum256(body)
	var b [24]byte
	copy(b[:], `W/"`)
	base64.RawURLEncoding.Encode(b[3:23], sum[:15])
	b[23] = '"'
	return string(b[:])
}

// call answers POST and the methods that stand for a call method.
func (h *Handler) call(w http.ResponseWriter, r *http.Request, rid, method string) {
	params, status, err := h.params(w, r)
	if err != nil {
		h.writeError(w, r, status, err)
		return
	}
	result, meta, err := h.backend.Call(r, rid, method, params)
	if h.ended(w, r, meta, result.RID, err) {
		return
	}
	header := w.Header()
	switch {
	case err != nil:
		if err.Code == res.CodeMethodNotFound && r.Method != http.MethodPost {
			// The path names the resource alone, so it is the HTTP method that does not fit.
			err = res.ErrMethodNotAllowed
			header.Set("Allow", strings.Replace(h.allow[0], ", "+r.Method, "", 1))
		}
		h.fail(w, r, err)
	case result.RID != "":
		header.Set("Location", h.Path(result.RID))
		w.WriteHeader(http.StatusOK)
	case result.Payload == nil || string(result.Payload) == "null":
		w.WriteHeader(http.StatusNoContent)
	default:
		h.writeJSON(w, r, http.StatusOK, result.Payload)
	}
}

// params reads a request's body: strict JSON, or nothing but white space for no parameters.
func (h *Handler) params(w http.ResponseWriter, r *http.Request) (params []byte, status int, err *res.Error) {
	limit := int64(h.o.MaxBody)
	if r.ContentLength > limit {
		return nil, http.StatusRequestEntityTooLarge, h.bodyTooLarge()
	}
	var body []byte
	var fault error
	if r.Body != nil && r.Body != http.NoBody {
		// Memory grows with what comes, not with what the client says will.
		var b bytes.Buffer
		_, fault = b.ReadFrom(http.MaxBytesReader(w, r.Body, limit))
		body = b.Bytes()
	}
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(fault, &tooLarge) {
		return nil, http.StatusRequestEntityTooLarge, h.bodyTooLarge()
	}
	if fault != nil {
		return nil, http.StatusBadRequest, res.ErrBadRequest
	}
	if body = bytes.TrimSpace(body); len(body) == 0 {
		return nil, 0, nil
	}
	var parser res.Parser
	if params, fault = parser.Custom(body); fault != nil {
		return nil, http.StatusBadRequest, res.ErrBadRequest
	}
	return params, 0, nil
}

func (h *Handler) bodyTooLarge() *res.Error {
	h.o.Metrics.BodyTooLarge.Add(1)
	return &res.Error{Code: res.CodeBadRequest, Message: fmt.Sprintf("Bad request: the body is longer than %d bytes", h.o.MaxBody)}
}

// writeJSON ends the answer with a body, compressed if that is worth it and asked for.
func (h *Handler) writeJSON(w http.ResponseWriter, r *http.Request, status int, body []byte) {
	header := w.Header()
	header["Content-Type"] = typeJSON
	if h.compressible(body) {
		header.Add("Vary", "Accept-Encoding")
		if c := chooseCoding(r.Header["Accept-Encoding"]); c != identity {
			z := compressors[c].Get().(*compressor)
			defer z.free(c)
			if packed, err := z.compress(body); err == nil && len(packed) < len(body) {
				h.o.Metrics.Compressed.Add(1)
				header.Set("Content-Encoding", c.String())
				body = packed
			}
		}
	}
	h.write(w, r, status, body)
}

func (h *Handler) compressible(body []byte) bool {
	return h.o.CompressAbove >= 0 && len(body) >= h.o.CompressAbove
}

// write sends status and body. A client that went away is nobody's concern here.
func (h *Handler) write(w http.ResponseWriter, r *http.Request, status int, body []byte) {
	w.Header()["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
}
