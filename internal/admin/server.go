// Package admin owns the admin port: an HTTP server of its own with a JSON API that looks inside a
// running gateway, and a few actions. docs/admin.md documents the API.
//
// It never touches what an owner owns. It asks event loops and cache shards by message, in slices
// of bounded work, and sorts, encodes and writes on goroutines of its own. So an owner never waits
// for it, and while nobody asks it costs nothing.
package admin

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"sluice/internal/admin/page"
	"sluice/internal/certs"
	"sluice/internal/collect"
	"sluice/internal/config"
	"sluice/internal/connid"
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
	IDs      connid.Maker
	Loops    func() []Loop // those that have started
	Shards   func() []*upstream.Shard
	ShardOf  func(name string) *upstream.Shard
	Ready    func() error                    // nil, or why requests cannot be served in full
	System   func(event string, data []byte) // handles a system event as if a service had sent it
	Running  func() *config.Config           // the settings in use
}

// Options configure a Server. All are required, but Level.
type Options struct {
	Config  *config.Config // with its defaults; AdminPort is not 0
	Gateway Gateway
	Clock   owner.Clock
	Log     *slog.Logger
	Level   *slog.LevelVar // of Log; nil: it cannot be changed
}

// minToken is the least length of the token, in bytes.
const minToken = 16

// Server is the HTTP server of the admin port.
type Server struct {
	// Fixed after New.
	addr   string
	gw     Gateway
	clock  owner.Clock
	log    *slog.Logger
	level  *slog.LevelVar
	token  *[sha256.Size]byte // hash of the token; nil: none is needed
	mutual bool               // clients need a certificate
	tls    *tls.Config        // nil: plaintext
	server *http.Server
	begun  time.Duration

	slots   chan struct{} // one for each question in progress
	recent  answers
	traces  traces
	listens atomic.Pointer[net.Listener] // nil before Start
	served  chan struct{}                // closed when the accept loop has ended
}

// maxQuestions is how many requests to the API are handled at a time.
const maxQuestions = 16

// New returns a server that Start makes listen. The error names the setting of a file that cannot
// be used.
func New(o Options) (*Server, error) {
	c := o.Config
	s := &Server{
		addr: c.AdminListenAddr(), gw: o.Gateway, clock: o.Clock, log: o.Log, level: o.Level,
		begun: o.Clock.Now(), slots: make(chan struct{}, maxQuestions), served: make(chan struct{}),
	}
	if c.AdminTokenFile != "" {
		token, err := readToken(c.AdminTokenFile)
		if err != nil {
			return nil, fmt.Errorf("adminTokenFile: %w", err)
		}
		hash := sha256.Sum256([]byte(token))
		s.token = &hash
	}
	if c.AdminTLSCert != "" {
		store, err := certs.New(certs.Options{Certs: []string{c.AdminTLSCert}, Keys: []string{c.AdminTLSKey}, Log: o.Log, Clock: o.Clock})
		if err != nil {
			return nil, fmt.Errorf("adminTlsCert, adminTlsKey: %w", err)
		}
		s.tls = store.Config("http/1.1")
	}
	if c.AdminClientCA != "" {
		text, err := os.ReadFile(c.AdminClientCA)
		if err != nil {
			return nil, fmt.Errorf("adminClientCa: %w: name a file that can be read", err)
		}
		s.tls.ClientCAs, s.tls.ClientAuth, s.mutual = x509.NewCertPool(), tls.RequireAndVerifyClientCert, true
		if !s.tls.ClientCAs.AppendCertsFromPEM(text) {
			return nil, errors.New("adminClientCa: the file has no certificate in PEM form")
		}
	}
	s.server = &http.Server{
		Handler: s.guard(s.routes()), ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// readToken reads the token from a file. The error does not quote it.
func readToken(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("%w: name a file that can be read", err)
	}
	token := strings.TrimSpace(string(text))
	if len(token) < minToken || strings.ContainsAny(token, " \t\r\n") {
		return "", fmt.Errorf("the file must have one token of at least %d characters without white space: openssl rand -hex 24 makes one", minToken)
	}
	return token, nil
}

// Start listens. fail gets the error if the server ends before Stop.
func (s *Server) Start(fail func(error)) error {
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		return fmt.Errorf("adminPort: cannot listen on %s: %w; choose another port, or 0 for none", s.addr, err)
	}
	scheme := "http"
	serving := l
	if s.tls != nil {
		scheme, serving = "https", tls.NewListener(l, s.tls)
	}
	s.listens.Store(&l)
	s.log.Info("admin server listening", "url", scheme+"://"+l.Addr().String()+"/", "token", s.token != nil, "clientCertificates", s.mutual)
	go func() {
		defer close(s.served)
		if err := s.server.Serve(serving); !errors.Is(err, http.ErrServerClosed) {
			fail(err)
		}
	}()
	return nil
}

// Addr returns the address that Start listens on; nil before. A nil Server has none.
func (s *Server) Addr() net.Addr {
	if s == nil {
		return nil
	}
	if l := s.listens.Load(); l != nil {
		return (*l).Addr()
	}
	return nil
}

// Stop ends all requests and the server.
func (s *Server) Stop() error {
	err := s.server.Close()
	<-s.served
	return err
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
