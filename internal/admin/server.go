// Package admin owns the admin port: an HTTP server of its own with a JSON API that looks inside a
// running gateway, and a few actions. docs/admin.md documents the API.
//
// It never touches what an owner owns. It asks event loops and cache shards by message, in slices
// of bounded work, and sorts, encodes and writes on goroutines of its own. So an owner never waits
// for it, and while nobody asks it costs nothing.
package admin

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"sluice/internal/admin/page"
	"sluice/internal/collect"
	"sluice/internal/config"
	"sluice/internal/connid"
	"sluice/internal/httpserver"
	"sluice/internal/owner"
	"sluice/internal/session"
	"sluice/internal/upstream"
	"sluice/netpoll"
)

// Loop is an event loop, as the API asks it. Net, Env and Out may be used on the loop only.
type Loop struct {
	Net     *netpoll.Loop
	Env     *session.Env
	Out     *upstream.Loop
	Post    func(f func())                       // runs f on the loop; any goroutine may call it
	Waiting func() int                           // messages in the loop's mailbox; any goroutine may call it
	Session func(who connid.ID) *session.Session // on the loop; nil: there is none
}

// Gateway is what the API looks into. Any goroutine may call the functions.
type Gateway struct {
	Version  string
	Counters *collect.Sources
	Metrics  http.Handler // of GET /metrics
	IDs      interface {
		Parse(cid string) (id connid.ID, ok bool)
	} // what a connection ID names
	Loops   func() []Loop // those that have started
	Shards  func() []*upstream.Shard
	ShardOf func(name string) *upstream.Shard
	Ready   func() error                    // nil, or why requests cannot be served in full
	System  func(event string, data []byte) // handles a system event as if a service had sent it
	Running func() *config.Config           // the settings in use
}

// Options configure a Server. All are required, but Level.
type Options struct {
	Config  *config.Config // with its defaults; AdminPort is not 0
	Gateway Gateway
	Clock   owner.Clock
	Log     *slog.Logger
	Level   *slog.LevelVar // of Log; nil: it cannot be changed
}

// Server is the HTTP server of the admin port.
type Server struct {
	// Fixed after New.
	*httpserver.Server
	gw    Gateway
	clock owner.Clock
	log   *slog.Logger
	level *slog.LevelVar
	begun time.Duration

	access   atomic.Pointer[access]
	accepted *tls.Config   // of the connection accepted last; owned by the accept loop
	slots    chan struct{} // one for each question in progress
	recent   answers
	traces   traces
}

// maxQuestions is how many requests to the API are handled at a time.
const maxQuestions = 16

// New returns a server that Start makes listen. The error names the setting of a file that cannot
// be used.
func New(o Options) (*Server, error) {
	s := &Server{
		gw: o.Gateway, clock: o.Clock, log: o.Log, level: o.Level,
		begun: o.Clock.Now(), slots: make(chan struct{}, maxQuestions),
	}
	a, err := newAccess(o.Config, nil, o.Clock, o.Log)
	if err != nil {
		return nil, err
	}
	s.access.Store(a)
	s.Server = httpserver.New(httpserver.Options{
		Setting: "adminPort", Addr: o.Config.AdminListenAddr(), Listener: o.Config.AdminListener, Handler: s.guard(s.routes()), Log: o.Log,
		Listening: s.announce, ConnContext: s.connContext,
		Wrap: func(l net.Listener) net.Listener { return listener{l, s} },
	})
	return s, nil
}

// announce logs where the server listens.
func (s *Server) announce(addr net.Addr) {
	a, scheme := s.access.Load(), "http"
	if a.tls != nil {
		scheme = "https"
	}
	s.log.Info("admin server listening", "url", scheme+"://"+addr.String()+"/", "token", a.token != nil, "clientCertificates", a.mutual())
}

// routes returns the handler of requests that the guard has let through.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	get := func(path string, f func(ctx context.Context, r *http.Request) (any, error)) {
		mux.Handle("GET "+path, s.answer(f))
	}
	post := func(path string, f func(ctx context.Context, r *http.Request) (any, error)) {
		mux.Handle("POST "+path, s.answer(f))
	}
	get("/api/overview", s.overview)
	get("/api/connections", s.listConnections)
	get("/api/connections/{cid}", s.showConnection)
	get("/api/requests", s.listRequests)
	get("/api/resources", s.listResources)
	get("/api/resource", s.showResource)
	mux.HandleFunc("GET /api/trace", s.trace)
	get("/api/config", s.showConfig)
	get("/api/log", s.showLevel)
	post("/api/log", s.setLevel)
	post("/api/connections/{cid}/disconnect", s.disconnect)
	post("/api/reset", s.reset)
	post("/api/flush", s.flush)
	mux.Handle("GET /metrics", s.gw.Metrics)
	profiles(mux)
	page.Register(mux)
	return mux
}
