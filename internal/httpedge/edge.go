package httpedge

import (
	"bytes"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sluice/fanout"
	"sluice/internal/config"
	"sluice/internal/httpapi"
	"sluice/internal/owner"
	"sluice/internal/res"
	"sluice/internal/session"
	"sluice/netpoll"
)

// IDs makes connection IDs, by which services name clients (RES.md section 2).
type IDs interface {
	// Conn returns the ID of a connection.
	Conn(h netpoll.Handle) string
	// Request returns the ID of an HTTP request from its loop and its number there, which is not 0.
	Request(loop int, number uint64) string
}

// Gateway is what the HTTP side asks of the rest. Any goroutine may call the functions.
type Gateway struct {
	IDs IDs
	// Healthy reports whether services can be reached.
	Healthy func() bool
	// Draining reports whether the gateway is being stopped: new clients should go elsewhere.
	Draining func() bool
	// Ready returns nil if clients get what they ask services for, else why not.
	Ready func() error
	// Closed reports whether clients are turned away, since services have been out of reach for too
	// long.
	Closed func() bool
	// Adopt takes a WebSocket upgrade back to a loop: the connection, the request's head and
	// whatever bytes followed it.
	Adopt func(c net.Conn, head []byte)
}

// Options are the settings of an Edge. All are required but those that say otherwise.
type Options struct {
	API        httpapi.Options
	HeaderAuth string         // resource ID and method, separated by a dot; empty: off
	WSPath     string         // path of WebSocket upgrades, decoded
	Pages      http.Handler   // answers what is neither ours nor below the API's path; nil: 404
	Trusted    []netip.Prefix // networks whose word on a client's address counts; may be nil
	Loops      int            // event loops

	MaxEncoding int // responses being encoded off the loops; 1024, negative: none

	MaxHead     int           // bytes of a request head
	HeadTimeout time.Duration // for a whole head, after its first byte
	Exchange    time.Duration // for reading a request's body and writing its response
	IdleTimeout time.Duration // between two requests of a connection
	Heartbeat   time.Duration // silence on a stream before a comment is sent; not positive: never

	Gateway Gateway
	Metrics *Metrics      // nil: not of interest
	Faults  *owner.Faults // takes note of panics that were contained; may be nil
	Log     *slog.Logger
}

// Edge is the HTTP side of a gateway.
type Edge struct {
	// Fixed after New.
	o          Options
	api        *httpapi.Handler
	forwarding forwarding
	server     *server
	encoding   encoding
	stopping   chan struct{} // closed when Stop has begun
	stop       sync.Once     // closes stopping
	halted     chan struct{} // closed by Halted

	loops []atomic.Pointer[Loop] // each set once, by its loop
	next  atomic.Uint32          // loop for the next request of net/http, in turn
}

// New returns an Edge. It serves nothing before Start.
func New(o Options) *Edge {
	if o.Metrics == nil {
		o.Metrics = new(Metrics)
	}
	if o.MaxEncoding == 0 {
		o.MaxEncoding = maxEncoding
	}
	e := &Edge{
		o:          o,
		forwarding: forwarding{trusted: o.Trusted, log: o.Log},
		stopping:   make(chan struct{}),
		halted:     make(chan struct{}),
		loops:      make([]atomic.Pointer[Loop], o.Loops),
	}
	e.api = httpapi.New(o.API, &backend{e})
	e.encoding.init(o.MaxEncoding, &o.Metrics.Busy)
	return e
}

// API returns the face of resources.
func (e *Edge) API() *httpapi.Handler { return e.api }

// forResource reports whether a path, escaped, is for the API.
func (e *Edge) forResource(path []byte) bool {
	if !e.api.Below(path) {
		return false
	}
	// The API may be everywhere, but for checks, which an escaped path may mean, too.
	if bytes.IndexByte(path, '%') < 0 {
		return string(path) != config.HealthPath && string(path) != config.ReadyPath
	}
	plain, err := url.PathUnescape(string(path))
	return err == nil && plain != config.HealthPath && plain != config.ReadyPath
}

// EscapedPath returns a path as it stands in a request, which an event loop
// compares with the setting wsPath.
func EscapedPath(path string) string { return (&url.URL{Path: path}).EscapedPath() }

// SplitMethod splits a setting such as headerAuth, which is valid, at its last dot.
func SplitMethod(s string) (rid, method string) {
	i := strings.LastIndexByte(s, '.')
	return s[:i], s[i+1:]
}

// httpError is what an HTTP client is told of err, which may be nil.
func httpError(err *res.Error) *res.Error {
	if err == nil {
		return nil
	}
	return err.HTTP()
}

// Loop is what the HTTP side keeps on an event loop. All its methods are called there.
type Loop struct {
	// Fixed after NewLoop.
	edge *Edge
	net  *netpoll.Loop
	env  *session.Env
	post func(f func()) // runs f on the loop; any goroutine may call it

	// Owned by the loop.
	requests requests
	answer   httpapi.Answer // scratch
	date     dateLine
	outbox   func(c *netpoll.Conn) fanout.Outbox

	// What the newest clients sent: the next one often sends the same.
	headers     headerMemo
	hosts, uris memo
}

// NewLoop makes the state of an event loop. env is that of its sessions, post runs a function on
// it, and outbox returns where a stream's frames go.
func (e *Edge) NewLoop(n *netpoll.Loop, env *session.Env, post func(f func()), outbox func(c *netpoll.Conn) fanout.Outbox) *Loop {
	l := &Loop{edge: e, net: n, env: env, post: post, outbox: outbox}
	l.answer.Header = make(http.Header)
	e.loops[n.Index()].Store(l)
	return l
}

// someLoop returns a loop for the next request of net/http, each in turn; nil if none has started.
func (e *Edge) someLoop() *Loop {
	n := uint32(len(e.loops))
	first := e.next.Add(1)
	for i := range n {
		if l := e.loops[(first+i)%n].Load(); l != nil {
			return l
		}
	}
	return nil
}

// Session returns the session of the HTTP request with a number; nil if it has ended.
func (l *Loop) Session(number uint64) *session.Session { return l.requests.byNumber[number] }

// requests are the HTTP requests in progress on a loop: their sessions, by the number in their
// connection ID. Owned by the loop.
type requests struct {
	byNumber map[uint64]*session.Session
	last     uint64
}

// number returns one that was not used before.
func (h *requests) number() uint64 {
	h.last++
	return h.last
}

func (h *requests) add(number uint64, s *session.Session) {
	if h.byNumber == nil {
		h.byNumber = make(map[uint64]*session.Session)
	}
	h.byNumber[number] = s
}

// end closes a session, if it has not been already; what still comes for it is dropped.
func (h *requests) end(number uint64) {
	if s := h.byNumber[number]; s != nil {
		delete(h.byNumber, number)
		s.Close()
	}
}
