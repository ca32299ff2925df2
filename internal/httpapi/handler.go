package httpapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"sluice/internal/res"
	"sluice/internal/session"
)

// Backend does what a request asks for. Its methods are called on the request's own goroutine and
// block until there is an answer or the request's context has ended. The meta that they return is
// that of all answers in their order, merged (see [MergeMeta]), with that of header authentication
// first. A meta whose status ends the request ([Ends]) comes without a result; an error may come
// with it.
type Backend interface {
	// Get asks for access and for the resource with all that it refers to.
	Get(r *http.Request, rid string) (*session.Graph, *res.Meta, *res.Error)
	// Call asks for access and calls the method. params are raw compact JSON, nil if there are
	// none, and may be kept.
	Call(r *http.Request, rid, method string, params []byte) (res.CallResult, *res.Meta, *res.Error)
	// Stream asks for access and subscribes to the resource. It returns once it has sent the
	// resource set as the first frame, or has failed. The stream then lasts until the backend
	// closes the sink or the request's context ends, upon which the backend must give the
	// subscription up.
	Stream(r *http.Request, rid string, sink Sink) (*res.Meta, *res.Error)
}

// Options are a handler's settings. Zero values mean the defaults.
type Options struct {
	APIPath  string // the path that resources lie below, decoded; "/api/"
	Encoding string // see ValidEncoding; "json"

	// The call methods that PUT, DELETE and PATCH stand for; empty: that HTTP method is not
	// allowed.
	PUT, DELETE, PATCH string

	AllowOrigin []string // origins of pages that may read answers; none or "*": all
	HeaderAuth  bool     // whether header authentication is on, so that pages may send credentials

	MaxBody       int // bytes of a request's body; 1 MiB
	MaxAnswer     int // bytes of a resource with all that it refers to; 32 MiB
	MaxBacklog    int // bytes of responses that wait to be written; beyond, a GET with a large body is answered with 503; 256 MiB
	CompressAbove int // bytes from which on an answer is compressed for clients that want it; 1400; negative: never

	Heartbeat      time.Duration // silence on a stream before a comment is sent; 15 s
	StreamWrite    time.Duration // for one write to a stream's client; 10 s
	StreamMessages int           // messages that may wait for a stream's client; 256
	StreamBytes    int           // bytes of those, but for a single message, which may be larger; 4 MiB

	// Backlog returns the bytes of responses that another server than net/http has to write; nil:
	// there is none. Any goroutine may call it.
	Backlog func() int64

	Metrics *Metrics     // nil: not of interest
	Log     *slog.Logger // nil: none
}

// Defaults of Options.
const (
	DefaultAPIPath        = "/api/"
	DefaultMaxBody        = 1 << 20
	DefaultMaxAnswer      = 32 << 20
	DefaultMaxBacklog     = 256 << 20
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
	Backlog      atomic.Int64  // bytes of large bodies that net/http writes now
	BacklogFull  atomic.Uint64 // requests rejected because too many bytes of responses waited to be written
	TooLarge     atomic.Uint64 // resources refused for the length of their encoding
}

// Handler serves everything below the API path. It is safe for concurrent use.
type Handler struct {
	// Fixed after New.
	o       Options
	backend Backend
	// prefix is APIPath as it stands in a request, with a slash at its end. Without
	// one at its beginning no request lies below it.
	prefix      string
	prefixBytes []byte // the same
	flat        bool   // encoding jsonflat
	origins     Origins
	bodies      sharedBodies
	methods     map[string]string // call methods by HTTP method
	allow       []string          // the value of Allow: all methods there are
}

// New makes a handler. Options must have been checked: an unknown encoding is a mistake in the
// program and panics.
func New(o Options, b Backend) *Handler {
	orDefault(&o.APIPath, DefaultAPIPath)
	orDefault(&o.Encoding, encodingJSON)
	orDefault(&o.MaxBody, DefaultMaxBody)
	orDefault(&o.MaxAnswer, DefaultMaxAnswer)
	orDefault(&o.MaxBacklog, DefaultMaxBacklog)
	if o.Backlog == nil {
		o.Backlog = func() int64 { return 0 }
	}
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
	path := o.APIPath
	if !strings.HasSuffix(path, "/") {
		path += "/"
	}
	path = (&url.URL{Path: path}).EscapedPath()
	h := &Handler{
		o: o, backend: b,
		prefix: path, prefixBytes: []byte(path),
		flat:    strings.EqualFold(o.Encoding, encodingFlat),
		origins: NewOrigins(o.AllowOrigin),
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

	credentials = []string{"true"}
	anyOrigin   = []string{"*"}
	varyOrigin  = []string{"Origin"}
)

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := Answer{Header: w.Header()}
	defer a.Free()
	q := queryOf(r)
	switch p := h.Plan(&a, &q); p.Do {
	case Get:
		g, meta, err := h.backend.Get(r, p.RID)
		if !h.Got(&a, &q, g, meta, err, 0) {
			h.Encode(&a, &q, g)
		}
	case Call:
		body, fault := h.readBody(w, r)
		params, ok := h.Params(&a, new(res.Parser), body, fault)
		if !ok {
			break
		}
		result, meta, err := h.backend.Call(r, p.RID, p.Method, params)
		if !h.Called(&a, &q, &result, meta, err, 0) {
			h.Pack(&a, &q)
		}
	case Stream:
		h.stream(w, r, p.RID)
		return
	}
	if n := int64(len(a.Body)); n >= largeBody && q.Method != http.MethodHead {
		h.o.Metrics.Backlog.Add(n)
		defer h.o.Metrics.Backlog.Add(-n)
	}
	a.Send(w, r.Method)
}

// backlogFull reports whether a GET is to be rejected because its body would be queued behind too
// many bytes of others. A call is never rejected for that: it has been made. Neither is a short
// response, so the gateway stays usable.
func (h *Handler) backlogFull(a *Answer, q *Query) bool {
	return len(a.Body) >= largeBody && q.Method != http.MethodHead &&
		h.o.Backlog()+h.o.Metrics.Backlog.Load()+int64(len(a.Body)) > int64(h.o.MaxBacklog)
}

// Busy rejects a request that may succeed a little later.
func (h *Handler) Busy(a *Answer) {
	delete(a.Header, "Etag")
	a.Header.Set("Retry-After", "1")
	a.Fail(res.ErrServiceUnavailable)
}

// Plan is what is to be done for a query.
type Plan struct {
	Do     Action
	RID    string
	Method string // to be called
}

// Action is the kind of a Plan.
type Action uint8

const (
	Nothing Action = iota // the answer is there already
	Get                   // get the resource, then Handler.Got
	Call                  // read the body, then Handler.Params, call the method, then Handler.Called
	Stream                // send the resource and its events
)

// Plan decides what is to be done for a query below the API path, or answers it. Unless it does,
// the fields that Handler.CORS sets are all that is in the answer.
func (h *Handler) Plan(a *Answer, q *Query) Plan {
	if !strings.HasPrefix(q.Path, h.prefix) {
		a.Fail(res.ErrNotFound)
		return Plan{}
	}
	allowed := h.CORS(a.Header, q.Origin)
	if q.Method == http.MethodOptions {
		// Also for a foreign origin: the browser sees from the header that it may not go on.
		h.options(a, q)
		return Plan{}
	}
	if !allowed {
		a.Fail(res.ErrForbiddenOrigin)
		return Plan{}
	}
	p := Plan{Do: Call}
	known := true
	ok := false
	switch q.Method {
	case http.MethodGet, http.MethodHead:
		p.Do = Get
		if p.RID, ok = h.RID(q.Path, q.RawQuery); q.Method == http.MethodGet && WantsStream(q.Accept) {
			p.Do = Stream
		}
	case http.MethodPost:
		p.RID, p.Method, ok = h.Method(q.Path, q.RawQuery)
	default:
		p.Method, known = h.methods[q.Method]
		p.RID, ok = h.RID(q.Path, q.RawQuery)
	}
	switch {
	case !known:
		a.Header["Allow"] = h.allow
		a.Fail(res.ErrMethodNotAllowed)
	case !ok:
		a.Fail(res.ErrNotFound)
	default:
		return p
	}
	return Plan{}
}

// options answers what a browser asks before it sends a request on behalf of another site's page.
func (h *Handler) options(a *Answer, q *Query) {
	a.Header["Allow"] = h.allow
	a.Header["Access-Control-Allow-Methods"] = h.allow
	if len(q.RequestHeaders) > 0 {
		a.Header.Set("Access-Control-Allow-Headers", strings.Join(q.RequestHeaders, ", "))
	}
	a.Status = http.StatusOK
}

// Got answers GET and HEAD by what a Backend's Get returned, on top of what Handler.CORS says.
// quick, if not 0, bounds the work: false means that the body would be longer than that, or is to
// be compressed, and that [Handler.Encode] must follow. Any goroutine may do that.
func (h *Handler) Got(a *Answer, q *Query, g *session.Graph, meta *res.Meta, err *res.Error, quick int) bool {
	if h.ended(a, q.Path, meta, "", err) {
		return true
	}
	if err == nil && g == nil {
		err = res.ErrInternal
	}
	if err != nil {
		a.Fail(err)
		return true
	}
	return (quick == 0 || isSmall(g, quick)) && h.encoded(a, q, g, quick)
}

// Encode ends an answer that Got has not ended.
func (h *Handler) Encode(a *Answer, q *Query, g *session.Graph) { h.encoded(a, q, g, 0) }

// encoded makes the answer of a graph. False: it would be more than quick, and nothing was done
// that may not be done again.
func (h *Handler) encoded(a *Answer, q *Query, g *session.Graph, quick int) bool {
	a.Free()
	a.buffer = buffers.Get().(*buffer)
	body, shared, ok, err := h.encode(a.buffer, g, quick)
	switch {
	case !ok:
		return false
	case err != nil:
		a.Fail(err)
		return true
	}
	tag := a.Header.Get("Etag") // a service's own wins
	a.sum, a.summed = sha256.Sum256(body), true
	if tag == "" {
		tag = entityTag(a.sum)
		a.Header["Etag"] = []string{tag}
	}
	cacheControl(a.Header)
	if matchesTag(q.IfNoneMatch, tag) {
		h.o.Metrics.NotModified.Add(1)
		if h.compressible(body) {
			a.Header.Add("Vary", "Accept-Encoding") // as the full answer would say
		}
		a.Status = http.StatusNotModified
		return true
	}
	a.Body, a.Shared = body, shared
	if !h.pack(a, q, quick) {
		return false
	}
	if h.backlogFull(a, q) {
		h.o.Metrics.BacklogFull.Add(1)
		delete(a.Header, "Content-Encoding")
		h.Busy(a)
	}
	return true
}

// cacheControl makes caches ask each time, since access is asked for each time: a copy may be used
// when the answer is 304. One that sets a cookie is nobody else's.
func cacheControl(header http.Header) {
	if header["Cache-Control"] != nil {
		return // said by a service
	}
	header["Cache-Control"] = noCache
	if header["Set-Cookie"] != nil {
		header.Set("Cache-Control", "private, no-cache")
	}
}

// entityTag is a weak entity tag (RFC 9110 section 8.8.3): the content codings of one body share
// it.
func entityTag(sum [sha256.Size]byte) string {
	var b [24]byte
	copy(b[:], `W/"`)
	base64.RawURLEncoding.Encode(b[3:23], sum[:15])
	b[23] = '"'
	return string(b[:])
}

// Called answers POST, and the methods that stand for a call method, by what a Backend's Call
// returned, on top of what Handler.CORS says. quick is as in Got, but that [Handler.Pack] must
// follow.
func (h *Handler) Called(a *Answer, q *Query, result *res.CallResult, meta *res.Meta, err *res.Error, quick int) bool {
	if h.ended(a, q.Path, meta, result.RID, err) {
		return true
	}
	switch {
	case err != nil:
		if err.Code == res.CodeMethodNotFound && q.Method != http.MethodPost {
			// The path names the resource alone, so it is the HTTP method that does not fit.
			err = res.ErrMethodNotAllowed
			a.Header.Set("Allow", strings.Replace(h.allow[0], ", "+q.Method, "", 1))
		}
		a.Fail(err)
	case result.RID != "":
		a.Header.Set("Location", h.Path(result.RID))
		a.Status = http.StatusOK
	case result.Payload == nil || string(result.Payload) == "null":
		a.Status = http.StatusNoContent
	default:
		a.Body, a.Shared = result.Payload, true
		return h.pack(a, q, quick)
	}
	return true
}

// readBody reads a request's body.
func (h *Handler) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	limit := int64(h.o.MaxBody)
	if r.ContentLength > limit {
		return nil, &http.MaxBytesError{Limit: limit}
	}
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	// Memory grows with what comes, not with what the client says will.
	var b bytes.Buffer
	_, err := b.ReadFrom(http.MaxBytesReader(w, r.Body, limit))
	return b.Bytes(), err
}

// Params takes the parameters of a call from a request's body, or what went wrong when it was read:
// strict JSON, or nothing but white space for no parameters. They are valid until the parser's next
// use or a change of body. False: the answer says what is wrong.
func (h *Handler) Params(a *Answer, parser *res.Parser, body []byte, fault error) (params []byte, ok bool) {
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(fault, &tooLarge) || fault == nil && len(body) > h.o.MaxBody {
		h.o.Metrics.BodyTooLarge.Add(1)
		a.FailAs(http.StatusRequestEntityTooLarge, &res.Error{Code: res.CodeBadRequest,
			Message: fmt.Sprintf("Bad request: the body is longer than %d bytes", h.o.MaxBody)})
		return nil, false
	}
	if fault == nil {
		if body = bytes.TrimSpace(body); len(body) == 0 {
			return nil, true
		}
		params, fault = parser.Custom(body)
	}
	if fault != nil {
		a.Fail(res.ErrBadRequest)
		return nil, false
	}
	return params, true
}

// Pack ends an answer that Called has not ended.
func (h *Handler) Pack(a *Answer, q *Query) { h.pack(a, q, 0) }

// pack ends an answer with a body, compressed if that is worth it and asked for. With quick, false
// means that it is, and is not done.
func (h *Handler) pack(a *Answer, q *Query, quick int) bool {
	c := identity
	compressible := h.compressible(a.Body)
	if compressible {
		if c = chooseCoding(q.AcceptEncoding); c != identity && quick > 0 {
			return false
		}
		a.Header.Add("Vary", "Accept-Encoding")
	}
	a.Header["Content-Type"] = typeJSON
	a.Status, a.sized = http.StatusOK, true
	if c == identity {
		if quick == 0 {
			h.share(a, identity)
		}
		return true
	}
	if packed := h.bodies.find(bodyKey{a.sum, c}); a.summed && packed != nil {
		h.o.Metrics.Compressed.Add(1)
		a.Header.Set("Content-Encoding", c.String())
		a.Body, a.Shared = packed, true
		a.Free()
		return true
	}
	z := compressors[c].Get().(*compressor)
	a.packer, a.coding = z, c
	if packed, err := z.compress(a.Body); err == nil && len(packed) < len(a.Body) {
		h.o.Metrics.Compressed.Add(1)
		a.Header.Set("Content-Encoding", c.String())
		a.Body, a.Shared = packed, false
		h.share(a, c)
	} else if err == nil {
		h.share(a, identity)
	}
	return true
}

func (h *Handler) compressible(body []byte) bool {
	return h.o.CompressAbove >= 0 && len(body) >= h.o.CompressAbove
}
