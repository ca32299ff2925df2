package httpedge

import (
	"bytes"
	"context"
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
	"sluice/internal/jwtauth"
	"sluice/internal/loglimit"
	"sluice/internal/owner"
	"sluice/internal/ratelimit"
	"sluice/internal/res"
	"sluice/internal/session"
	"sluice/netpoll"
)

// IDs makes connection IDs, by which services identify clients (RES.md section 1).
type IDs interface {
	// Conn returns the ID of a connection.
	Conn(h netpoll.Handle) string
	// Request returns the ID of an HTTP request from its loop and its number there, which is > 0.
	Request(loop int, number uint64) string
}

// Gateway is what the HTTP side needs of the rest of the gateway. Any goroutine may call the
// functions.
type Gateway struct {
	IDs IDs
	// Healthy reports whether NATS is connected.
	Healthy func() bool
	// Draining reports whether the gateway is being stopped: health checks fail.
	Draining func() bool
	// Ready returns nil if requests can be served in full, otherwise the reason why not.
	Ready func() error
	// Alive returns nil once every event loop and cache shard has handled a message, or ctx's
	// error.
	Alive func(ctx context.Context) error
	// Closed reports whether clients are rejected, since NATS has been unreachable for longer than
	// the grace period.
	Closed func() bool
	// Elsewhere returns the URL of the gateway that clients should use in place of this one, which
	// is being stopped or has lost NATS; "" if they should stay. nil: they always should.
	Elsewhere func() string
	// Adopt returns a connection with a WebSocket upgrade to a loop. head has the request's head
	// and the bytes read after it.
	Adopt func(c net.Conn, head []byte)
}

// Options are the settings of an Edge. All are required unless their comment says otherwise.
type Options struct {
	API        httpapi.Options
	HeaderAuth string         // resource ID and method, separated by a dot; empty: off
	WSPath     string         // path of WebSocket upgrades, decoded
	Pages      http.Handler   // handles all other paths; nil: 404
	HideHealth bool           // health checks are answered by Health's handler only
	Trusted    []netip.Prefix // networks of proxies whose forwarded addresses are used; may be nil
	Loops      int            // number of event loops

	MaxEncoding int // responses being encoded off the loops at a time; 0: 1024, negative: none

	MaxHead     int           // bytes of a request head
	HeadTimeout time.Duration // for a whole head, after its first byte
	Exchange    time.Duration // for reading a request's body and writing its response
	IdleTimeout time.Duration // between two requests of a connection
	Heartbeat   time.Duration // how long a stream is idle before a comment is sent; <= 0: never

	Addresses *ratelimit.Addresses // limits by address; nil: none
	Tokens    *jwtauth.Auth        // verifies the tokens of clients; nil: they are none
	Clock     owner.Clock          // of the loops

	Gateway Gateway
	Metrics *Metrics      // nil: not counted
	Faults  *owner.Faults // logs and counts contained panics; may be nil
	Log     *slog.Logger
}

// Edge is the HTTP side of a gateway.
type Edge struct {
	// Fixed after New.
	o          Options
	api        *httpapi.Handler
	route      string // see routeOf
	forwarding forwarding
	server     *server
	encoding   encoding
	alive      liveness
	unmoved    loglimit.Limiter // of lines about upgrades that cannot leave net/http
	stopping   chan struct{}    // closed when Stop has begun
	stop       sync.Once        // closes stopping
	halted     chan struct{}    // closed by Halted

	loops []atomic.Pointer[Loop] // each set once, by its loop
	next  atomic.Uint32          // loop for the next request on net/http, round robin
}

// New returns an Edge. Its net/http server does not run before Start.
func New(o Options) *Edge {
	if o.Metrics == nil {
		o.Metrics = new(Metrics)
	}
	if o.Tokens == nil {
		o.Tokens = new(jwtauth.Auth)
	}
	if o.MaxEncoding == 0 {
		o.MaxEncoding = maxEncoding
	}
	e := &Edge{
		o:        o,
		stopping: make(chan struct{}),
		halted:   make(chan struct{}),
		alive:    liveness{turn: make(chan struct{}, 1)},
		loops:    make([]atomic.Pointer[Loop], o.Loops),
	}
	trusted := ratelimit.Networks(o.Trusted)
	e.forwarding.log = o.Log
	e.forwarding.trusted.Store(&trusted)
	e.route = routeOf(o.API.APIPath)
	e.api = httpapi.New(o.API, &backend{e})
	e.encoding.init(o.MaxEncoding, &o.Metrics.Busy)
	return e
}

// Adjust replaces Trusted, MaxHead, HeadTimeout and IdleTimeout for connections from now on, and
// what Handler.Adjust of httpapi says. It follows Start; any goroutine may call it. For streams on
// the loops, Loop.Adjust replaces Heartbeat.
func (e *Edge) Adjust(o Options) {
	list := ratelimit.Networks(o.Trusted)
	e.forwarding.trusted.Store(&list)
	e.api.Adjust(o.API)
	e.server.adjust(e.newGeneration(&o))
}

// API returns the handler of requests for resources.
func (e *Edge) API() *httpapi.Handler { return e.api }

// forResource reports whether an escaped path is for the API.
func (e *Edge) forResource(path []byte) bool {
	if !e.api.Below(path) {
		return false
	}
	// If apiPath is "/", health checks are below it, too, perhaps in an escaped form.
	if bytes.IndexByte(path, '%') < 0 {
		return !e.isHealth(string(path))
	}
	plain, err := url.PathUnescape(string(path))
	return err == nil && !e.isHealth(plain)
}

// isHealth reports whether a decoded path is one of health checks on the port for clients.
func (e *Edge) isHealth(path string) bool {
	return !e.o.HideHealth && (path == config.HealthPath || path == config.ReadyPath || path == config.LivePath)
}

// EscapedPath returns a decoded path in the escaped form of a request's target.
func EscapedPath(path string) string { return (&url.URL{Path: path}).EscapedPath() }

// SplitMethod splits a valid setting such as headerAuth at its last dot.
func SplitMethod(s string) (rid, method string) {
	i := strings.LastIndexByte(s, '.')
	return s[:i], s[i+1:]
}

// httpError returns err in its form for HTTP clients; nil if err is nil.
func httpError(err *res.Error) *res.Error {
	if err == nil {
		return nil
	}
	return err.HTTP()
}

// Loop is the state of the HTTP side on an event loop. All its methods are called there.
type Loop struct {
	// Fixed after NewLoop.
	edge *Edge
	net  *netpoll.Loop
	env  *session.Env
	post func(f func()) // runs f on the loop; any goroutine may call it

	// Owned by the loop.
	requests requests
	response httpapi.Response // scratch
	date     dateLine
	outbox   func(c *netpoll.Conn) fanout.Outbox

	heartbeat time.Duration // Options.Heartbeat

	// Of the newest clients: the next one often sends the same.
	heads       headMemo
	headers     headerMemo
	hosts, uris memo
}

// NewLoop returns the state of an event loop. env is that of its sessions, of which it sets what
// concerns tokens; post runs a function on
// the loop, and outbox returns the outbox of a stream.
func (e *Edge) NewLoop(n *netpoll.Loop, env *session.Env, post func(f func()), outbox func(c *netpoll.Conn) fanout.Outbox) *Loop {
	l := &Loop{edge: e, net: n, env: env, post: post, outbox: outbox, heartbeat: e.o.Heartbeat}
	l.response = httpapi.NewResponse()
	env.Wheel, env.Now, env.Login = n.Wheel(), n.Now, l.login
	e.loops[n.Index()].Store(l)
	return l
}

// someLoop returns a loop for the next request on net/http, round robin; nil if none has started.
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

// requests are the sessions of the in-flight HTTP requests of a loop, by the number in their
// connection ID. Owned by the loop.
type requests struct {
	byNumber map[uint64]*session.Session
	last     uint64
}

// number returns a number that was not used before.
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

// end closes a session, if it is open. Replies to its requests are dropped then.
func (h *requests) end(number uint64) {
	if s := h.byNumber[number]; s != nil {
		delete(h.byNumber, number)
		s.Close()
	}
}
