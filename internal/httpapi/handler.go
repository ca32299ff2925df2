package httpapi

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"sluice/internal/loglimit"
	"sluice/internal/owner"
	"sluice/internal/res"
	"sluice/internal/session"
	"sluice/internal/timeslice"
)

// Backend does what a request asks for. Its methods are called on the request's own goroutine and
// block until there is a result or the request's context has ended. The meta that they return is
// that of all the services' replies in their order, merged (see [MergeMeta]), header authentication
// first. With a meta whose status ends the request ([Ends]) there is no result, but there may be an
// error.
type Backend interface {
	// Get requests access, and fetches the resource with all that it refers to.
	Get(r *http.Request, rid string) (*session.Graph, *res.Meta, *res.Error)
	// Call requests access and calls the method. params are raw compact JSON, nil if there are
	// none. The backend may keep them.
	Call(r *http.Request, rid, method string, params []byte) (res.CallResult, *res.Meta, *res.Error)
	// Stream requests access and subscribes to the resource. It returns once it has sent the
	// resource set as the first frame, or has failed. The stream then lasts until the backend
	// closes the sink or the request's context ends. In both cases the backend unsubscribes.
	Stream(r *http.Request, rid string, sink Sink) (*res.Meta, *res.Error)
}

// Options are a handler's settings. A zero value means the default, which the comment gives last.
type Options struct {
	APIPath  string // the path below which resources are, decoded; "/api/"
	Encoding string // see ValidEncoding; "json"

	// The call methods that PUT, DELETE and PATCH are mapped to; empty: that HTTP method is not
	// allowed.
	PUT, DELETE, PATCH string

	AllowOrigin []string // origins of pages that may read responses; none or "*": all
	HeaderAuth  bool     // header authentication is on, so pages may send credentials
	Cookies     bool     // cookies authenticate clients, so pages may send credentials

	MaxBody       int // bytes of a request's body; 1 MiB
	MaxResponse   int // bytes of a resource with all that it refers to; 32 MiB
	MaxBacklog    int // bytes of responses queued for writing; beyond it a GET with a large body gets 503; 256 MiB
	CompressAbove int // bytes from which on a body is compressed for clients that accept it; negative: never; 1400

	Heartbeat      time.Duration // how long a stream is idle before a comment is sent; negative: never; 15 s
	StreamWrite    time.Duration // timeout of one write to a stream's client; 10 s
	StreamMessages int           // frames in the backlog of a stream; 256
	StreamBytes    int           // bytes in the backlog of a stream, which may exceed it with a single frame; 4 MiB

	// Backlog returns the bytes of responses that are queued for writing at another server than
	// net/http; nil: there is no other. Any goroutine may call it.
	Backlog func() int64

	// Shed is told every 100 ms how many bytes wait to be written at net/http, while there are any.
	// It calls cut if clients must go: for as many bytes as their share. cut returns how many have
	// gone. nil: all stay.
	Shed  func(bytes int64, cut func(share int64) int)
	Clock owner.Clock // nil: the system's

	Metrics *Metrics     // nil: not counted
	Log     *slog.Logger // nil: no log
}

// Defaults of Options.
const (
	DefaultAPIPath        = "/api/"
	DefaultMaxBody        = 1 << 20
	DefaultMaxResponse    = 32 << 20
	DefaultMaxBacklog     = 256 << 20
	DefaultCompressAbove  = 1400
	DefaultHeartbeat      = 15 * time.Second
	DefaultStreamWrite    = 10 * time.Second
	DefaultStreamMessages = 256
	DefaultStreamBytes    = 4 << 20
)

// Metrics counts what a handler does. Any goroutine may read it.
type Metrics struct {
	Streams      atomic.Int64  // open streams on net/http
	StreamsCut   atomic.Uint64 // streams closed because their client did not read
	NotModified  atomic.Uint64 // responses with 304
	Compressed   atomic.Uint64 // responses sent compressed
	BodyTooLarge atomic.Uint64 // requests rejected for the length of their body
	Backlog      atomic.Int64  // bytes of large bodies that net/http is writing
	BacklogFull  atomic.Uint64 // requests rejected because too many bytes of responses were queued
	TooLarge     atomic.Uint64 // responses replaced by an error for their length
}

// Handler serves everything below the API path. It is safe for concurrent use.
type Handler struct {
	writing

	// Fixed after New.
	o       Options
	backend Backend
	// prefix is APIPath as escaped in a request, with a slash at its end. Without one at its
	// beginning no request is below it.
	prefix      string
	prefixBytes []byte               // the same
	flat        bool                 // encoding jsonflat
	live        atomic.Pointer[live] // replaced as a whole by Adjust
	bodies      sharedBodies
	methods     map[string]string // call methods by HTTP method
	allow       []string          // the value of Allow: all allowed methods

	badStatus loglimit.Limiter // of lines about a status that is ignored
}

// New returns a handler. The options are valid already: it panics on an unknown encoding.
func New(o Options, b Backend) *Handler {
	orDefault(&o.APIPath, DefaultAPIPath)
	orDefault(&o.Encoding, encodingJSON)
	orDefault(&o.MaxResponse, DefaultMaxResponse)
	if o.Backlog == nil {
		o.Backlog = func() int64 { return 0 }
	}
	orDefault(&o.StreamWrite, DefaultStreamWrite)
	orDefault(&o.StreamMessages, DefaultStreamMessages)
	if o.Metrics == nil {
		o.Metrics = new(Metrics)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Shed == nil {
		o.Shed = func(int64, func(int64) int) {}
	}
	if o.Clock == nil {
		o.Clock = owner.SystemClock()
	}
	if !ValidEncoding(o.Encoding) {
		panic("httpapi: unknown encoding " + o.Encoding)
	}
	path := o.APIPath
	if !strings.HasSuffix(path, "/") {
		path += "/"
	}
	path = (&url.URL{Path: path}).EscapedPath()
	h := &Handler{
		o: o, backend: b,
		prefix: path, prefixBytes: []byte(path),
		flat:    strings.EqualFold(o.Encoding, encodingFlat),
		methods: map[string]string{},
	}
	h.writing.clock, h.writing.shed = o.Clock, o.Shed
	h.Adjust(o)
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

// live is the part of the options that Adjust changes. It is immutable.
type live struct {
	Cookies       bool
	MaxBody       int
	MaxBacklog    int
	CompressAbove int
	Heartbeat     time.Duration
	StreamBytes   int
	origins       Origins
}

// Adjust replaces AllowOrigin, Cookies, MaxBody, MaxBacklog, CompressAbove, Heartbeat and
// StreamBytes for requests from now on, Heartbeat for open streams, too. Any goroutine may call it.
func (h *Handler) Adjust(o Options) {
	orDefault(&o.MaxBody, DefaultMaxBody)
	orDefault(&o.MaxBacklog, DefaultMaxBacklog)
	orDefault(&o.CompressAbove, DefaultCompressAbove)
	orDefault(&o.Heartbeat, DefaultHeartbeat)
	orDefault(&o.StreamBytes, DefaultStreamBytes)
	h.live.Store(&live{o.Cookies, o.MaxBody, o.MaxBacklog, o.CompressAbove, o.Heartbeat, o.StreamBytes, NewOrigins(o.AllowOrigin)})
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
	byCoding = []string{"Accept-Encoding"}

	credentials = []string{"true"}
	anyOrigin   = []string{"*"}
	varyOrigin  = []string{"Origin"}
)

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	resp := Response{Header: w.Header()}
	defer resp.Free()
	q := queryOf(r)
	switch p := h.Plan(&resp, &q); p.Do {
	case Get:
		g, meta, err := h.backend.Get(r, p.RID)
		if !h.Got(&resp, &q, g, meta, err, 0) {
			h.Encode(&resp, &q, g)
		}
	case Call:
		body, fault := h.readBody(w, r)
		params, ok := paramsOf(h, &resp, body, fault)
		if !ok {
			break
		}
		result, meta, err := h.backend.Call(r, p.RID, p.Method, params)
		if !h.Called(&resp, &q, &result, meta, err, 0) {
			h.Pack(&resp, &q)
		}
	case Stream:
		h.stream(w, r, p.RID)
		return
	}
	if n := int64(len(resp.Body)); n >= largeBody && q.Method != http.MethodHead {
		h.o.Metrics.Backlog.Add(n)
		defer h.o.Metrics.Backlog.Add(-n)
		resp.sendHead(w)
		h.writing.send(w, resp.Body)
		return
	}
	resp.Send(w, r.Method)
}

// backlogFull reports whether a GET is to be rejected because too many bytes of responses are
// queued already. The response to a call is never replaced: the call has been made. Neither is a
// short one, so the gateway stays usable.
func (h *Handler) backlogFull(resp *Response, q *Query) bool {
	return len(resp.Body) >= largeBody && q.Method != http.MethodHead &&
		h.o.Backlog()+h.o.Metrics.Backlog.Load()+int64(len(resp.Body)) > int64(h.live.Load().MaxBacklog)
}

// Busy rejects a request because of load: 503 with Retry-After.
func (h *Handler) Busy(resp *Response) {
	delete(resp.Header, "Etag")
	resp.Header.Set("Retry-After", "1")
	resp.Fail(res.ErrServiceUnavailable)
}

// Plan is what a query asks for.
type Plan struct {
	Do     Action
	RID    string
	Method string // of a Call
}

// Action is the kind of a Plan.
type Action uint8

const (
	Nothing Action = iota // the response is complete
	Get                   // fetch the resource, then Handler.Got
	Call                  // read the body, then Handler.Params, call the method, then Handler.Called
	Stream                // subscribe to the resource, then Handler.Streamed
)

// Plan decides what a query asks for. If the Action is Nothing, resp is complete, an error for
// example. Otherwise resp has only the fields that Handler.CORS sets.
func (h *Handler) Plan(resp *Response, q *Query) Plan {
	if !strings.HasPrefix(q.Path, h.prefix) {
		resp.Fail(res.ErrNotFound)
		return Plan{}
	}
	allowed := h.CORS(resp.Header, q.Origin)
	if q.Method == http.MethodOptions {
		// Also for a foreign origin: the header tells the browser that the request is not allowed.
		h.options(resp, q)
		return Plan{}
	}
	if !allowed {
		resp.Fail(res.ErrForbiddenOrigin)
		return Plan{}
	}
	p := Plan{Do: Call}
	known := true
	ok := false
	switch q.Method {
	case http.MethodGet, http.MethodHead:
		query := q.RawQuery
		if p.Do = Get; q.Method == http.MethodGet && WantsStream(q.Accept) {
			p.Do = Stream
			query, _ = CutLost(query)
		}
		p.RID, ok = toRID(q.Path[len(h.prefix):], query, q.Interned)
	case http.MethodPost:
		p.RID, p.Method, ok = h.Method(q.Path, q.RawQuery)
	default:
		p.Method, known = h.methods[q.Method]
		p.RID, ok = h.RID(q.Path, q.RawQuery)
	}
	switch {
	case len(q.Path) > len(h.prefix) && strings.HasSuffix(q.Path, "/"): // whatever the method is
		resp.Fail(res.ErrNotFound)
	case !known:
		resp.Header["Allow"] = h.allow
		resp.Fail(res.ErrMethodNotAllowed)
	case !ok:
		resp.Fail(res.ErrNotFound)
	default:
		return p
	}
	return Plan{}
}

// options builds the response to a CORS preflight request, and to any other OPTIONS.
func (h *Handler) options(resp *Response, q *Query) {
	resp.Header["Allow"] = h.allow
	resp.Header["Access-Control-Allow-Methods"] = h.allow
	if len(q.RequestHeaders) > 0 {
		resp.Header.Set("Access-Control-Allow-Headers", strings.Join(q.RequestHeaders, ", "))
	}
	resp.Status = http.StatusOK
}

// Got builds the response to GET and HEAD from what a Backend's Get returned; resp has the fields
// of Handler.CORS. quick, if not 0, bounds the work: Got returns false if the body would be longer
// than that many bytes, or is to be compressed. [Handler.Encode] must follow then, on any
// goroutine.
func (h *Handler) Got(resp *Response, q *Query, g *session.Graph, meta *res.Meta, err *res.Error, quick int) bool {
	if h.ended(resp, q.Path, meta, "", err) {
		return true
	}
	if err == nil && g == nil {
		err = res.ErrInternal
	}
	if err != nil {
		resp.Fail(err)
		return true
	}
	return (quick == 0 || isSmall(g, quick)) && h.encoded(resp, q, g, quick)
}

// Encode completes a response for which Got has returned false.
func (h *Handler) Encode(resp *Response, q *Query, g *session.Graph) { h.encoded(resp, q, g, 0) }

// encoded builds the response from a graph. It returns false if quick is not enough; then it may be
// called again with the same response.
func (h *Handler) encoded(resp *Response, q *Query, g *session.Graph, quick int) bool {
	resp.Free()
	resp.buffer = buffers.Get().(*buffer)
	body, shared, ok, err := h.encode(resp.buffer, g, quick)
	switch {
	case !ok:
		return false
	case err != nil:
		resp.Fail(err)
		return true
	}
	tag := resp.tag(body, shared && !h.compressible(body))
	cacheControl(resp.Header)
	if matchesTag(q.IfNoneMatch, tag) {
		h.o.Metrics.NotModified.Add(1)
		if h.compressible(body) {
			varyByEncoding(resp.Header) // as with 200 (RFC 9110 section 15.4.5)
		}
		resp.Status = http.StatusNotModified
		return true
	}
	resp.Body, resp.Shared = body, shared
	if !h.pack(resp, q, quick) {
		return false
	}
	if h.backlogFull(resp, q) {
		h.o.Metrics.BacklogFull.Add(1)
		delete(resp.Header, "Content-Encoding")
		h.Busy(resp)
	}
	return true
}

// varyByEncoding adds Accept-Encoding to Vary.
func varyByEncoding(header http.Header) {
	if header["Vary"] == nil {
		header["Vary"] = byCoding // shared, as most responses have no other
		return
	}
	header.Add("Vary", byCoding[0])
}

// cacheControl makes caches revalidate each time, since access is requested each time: they may use
// their copy after a 304. A response that sets a cookie is private.
func cacheControl(header http.Header) {
	if header["Cache-Control"] != nil {
		return // set by a service
	}
	header["Cache-Control"] = noCache
	if header["Set-Cookie"] != nil {
		header.Set("Cache-Control", "private, no-cache")
	}
}

// Called builds the response to POST, and to the methods mapped to a call method, from what a
// Backend's Call returned; resp has the fields of Handler.CORS. quick is as in Got, but
// [Handler.Pack] must follow.
func (h *Handler) Called(resp *Response, q *Query, result *res.CallResult, meta *res.Meta, err *res.Error, quick int) bool {
	if h.ended(resp, q.Path, meta, result.RID, err) {
		return true
	}
	switch {
	case err != nil:
		if err.Code == res.CodeMethodNotFound && q.Method != http.MethodPost {
			// The call method stands for the HTTP method, so that is not allowed.
			err = res.ErrMethodNotAllowed
			resp.Header.Set("Allow", strings.Replace(h.allow[0], ", "+q.Method, "", 1))
		}
		resp.Fail(err)
	case result.RID != "":
		resp.Header.Set("Location", h.Path(result.RID))
		resp.Status = http.StatusOK
	case result.Payload == nil || string(result.Payload) == "null":
		resp.Status = http.StatusNoContent
	default:
		resp.Body, resp.Shared = result.Payload, true
		return h.pack(resp, q, quick)
	}
	return true
}

// readBody reads a request's body on net/http.
func (h *Handler) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	limit := int64(h.live.Load().MaxBody)
	if r.ContentLength > limit {
		return nil, &http.MaxBytesError{Limit: limit}
	}
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	// Memory grows with the bytes read, not with the Content-Length that the client claims.
	var b bytes.Buffer
	_, err := b.ReadFrom(http.MaxBytesReader(w, r.Body, limit))
	return b.Bytes(), err
}

// Params takes the parameters of a call from a request's body, or what went wrong when it was read:
// strict JSON, or nothing but white space for no parameters. They are valid until the parser's next
// use or a change of body. False: the answer says what is wrong.
func (h *Handler) Params(resp *Response, parser *res.Parser, body []byte, fault error) (params []byte, ok bool) {
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(fault, &tooLarge) || fault == nil && len(body) > h.live.Load().MaxBody {
		h.o.Metrics.BodyTooLarge.Add(1)
		resp.FailAs(http.StatusRequestEntityTooLarge, &res.Error{Code: res.CodeBadRequest,
			Message: fmt.Sprintf("Bad request: the body is longer than %d bytes", h.live.Load().MaxBody)})
		return nil, false
	}
	if fault != nil {
		resp.Fail(res.ErrBadRequest)
		return nil, false
	}
	text := bytes.TrimSpace(body)
	if len(text) == 0 {
		return nil, true
	}
	if params, fault = parser.Custom(text); fault != nil {
		offset, reason := parser.Diagnose(text)
		resp.Fail(malformedBody(bytes.Index(body, text)+offset, reason))
		return nil, false
	}
	return params, true
}

// workHere is the longest body, in bytes, that is parsed or compressed without a turn of package
// timeslice: a megabyte of JSON takes up to 50 ms.
const workHere = 32 << 10

// paramsOf is h.Params on a goroutine of net/http.
func paramsOf(h *Handler, resp *Response, body []byte, fault error) (params []byte, ok bool) {
	if fault != nil || len(body) <= workHere {
		return h.Params(resp, new(res.Parser), body, fault)
	}
	timeslice.Do(func(yield func()) {
		params, ok = h.Params(resp, &res.Parser{Yield: yield}, body, nil)
	})
	return params, ok
}

// malformedBody returns the error for a body that is not JSON. Its code and message are the
// protocol's (RES.md sections 4 and 5), since clients may depend on them. Its data say what is
// wrong at which offset in the body, in bytes from 0.
func malformedBody(offset int, reason string) *res.Error {
	data := append(strconv.AppendInt([]byte(`{"offset":`), int64(offset), 10), `,"reason":`...)
	data = append(res.AppendString(data, "malformed JSON: "+reason), '}')
	return &res.Error{Code: res.CodeBadRequest, Message: res.ErrBadRequest.Message, Data: string(data)}
}

// Pack completes a response for which Called has returned false.
func (h *Handler) Pack(resp *Response, q *Query) { h.pack(resp, q, 0) }

// pack completes a response with a body, which it compresses if it is long enough and the client
// accepts it. With quick > 0 it does not compress, and returns false instead.
func (h *Handler) pack(resp *Response, q *Query, quick int) bool {
	c := identity
	compressible := h.compressible(resp.Body)
	if compressible {
		if c = chooseCoding(q.AcceptEncoding); c != identity && quick > 0 {
			return false
		}
		varyByEncoding(resp.Header)
	}
	resp.Header["Content-Type"] = typeJSON
	resp.Status, resp.sized = http.StatusOK, true
	if c == identity {
		if quick == 0 {
			h.share(resp, identity)
		}
		return true
	}
	if packed := h.bodies.find(bodyKey{resp.sum, c}); resp.summed && packed != nil {
		h.o.Metrics.Compressed.Add(1)
		resp.Header.Set("Content-Encoding", c.String())
		resp.Body, resp.Shared = packed, true
		resp.Free()
		return true
	}
	z := compressors[c].Get().(*compressor)
	resp.packer, resp.coding = z, c
	if packed, err := z.compress(resp.Body); err == nil && len(packed) < len(resp.Body) {
		h.o.Metrics.Compressed.Add(1)
		resp.Header.Set("Content-Encoding", c.String())
		resp.Body, resp.Shared = packed, false
		h.share(resp, c)
	} else if err == nil {
		h.share(resp, identity)
	}
	return true
}

func (h *Handler) compressible(body []byte) bool {
	return h.live.Load().CompressAbove >= 0 && len(body) >= h.live.Load().CompressAbove
}
