// Package embednats owns the NATS server inside the gateway's process: for installations on one
// machine, and for sites whose server is a leaf node of a cluster elsewhere.
//
// It never listens beyond loopback without authentication unless told to, and never stores anything
// unless a configuration file of nats-server turns JetStream on. It leaves signals and the end of
// the process to the caller.
package embednats

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"sluice/internal/metrics"
	"sluice/internal/secret"
)

// Options configure the server.
type Options struct {
	Listen   string // host:port that services connect to, unless File has one; port 0: any free one
	File     string // a configuration file of nats-server; empty: none
	Insecure bool   // listen beyond loopback without authentication

	// Who may connect. All empty: anyone, unless File says otherwise.
	Users     secret.Key // name:password, several separated by ;
	Token     secret.Key
	Nkeys     []string // public keys of users
	Cert, Key string   // certificate and key files for TLS
	ClientCA  string   // file of the authorities whose certificates clients must have

	Leaf Leaf

	Ping time.Duration // interval of pings to the hub and to clients; two without a pong end a connection

	Metrics *Metrics     // nil: of its own
	Log     *slog.Logger // the server's messages
	Trace   slog.Level   // their level for single protocol messages
}

// Leaf is what the server needs to be a leaf node of another. Without URLs it is none, unless the
// configuration file has remotes.
type Leaf struct {
	URLs      secret.URLs // of one hub: the leaf node ports of its servers
	Creds     string      // file of user credentials
	Nkey      string      // file of a user's nkey seed
	Cert, Key string      // files of a client certificate and its key
	RootCAs   []string    // files of authorities of the hub's certificate
}

// Metrics are the counters of a server that is a leaf node. Any goroutine may read them.
type Metrics struct {
	Links  metrics.Gauge   // links to the hub that are up
	Ups    metrics.Counter // times that all links were up
	Losses metrics.Counter // times that one was lost
}

// Server is a running NATS server. The gateway reaches it through an in-process
// connection; services reach it through its listener. It ends with Stop. Its
// methods are safe for concurrent use.
type Server struct {
	srv    *server.Server
	failed chan string // the server's first fatal error
	leaf   *leaf       // nil: it is no leaf node

	user  nkeys.KeyPair // of the gateway; nil: it needs no authentication of its own
	key   string        // public key of user
	creds bool          // the gateway needs a credentials file
}

// startTimeout bounds how long the listener may take to open.
const startTimeout = 10 * time.Second

// Check returns the error of Start that needs no socket to be found: of the options and the files.
func Check(o Options) error {
	_, err := new(Server).settings(&o)
	if err != nil {
		return fmt.Errorf("embedded NATS server: %w", err)
	}
	return nil
}

// Start runs a server and returns when clients can connect; a leaf node's link may take longer, see
// InProcessConn. Its error says what to do. ctx bounds the wait.
func Start(ctx context.Context, o Options) (*Server, error) {
	e := &Server{}
	settings, err := e.settings(&o)
	if err != nil {
		return nil, fmt.Errorf("embedded NATS server: %w", err)
	}
	if e.srv, err = server.NewServer(settings); err != nil {
		return nil, fmt.Errorf("embedded NATS server: %w", err)
	}
	l := &serverLog{log: o.Log.With("part", "nats-server"), trace: o.Trace, failed: make(chan string, 1)}
	e.failed = l.failed
	if n := len(settings.LeafNode.Remotes); n > 0 {
		e.leaf = newLeaf(e.srv, n, &o)
		l.leaf = e.leaf
	}
	e.srv.SetLogger(l, o.Log.Enabled(ctx, slog.LevelDebug), o.Log.Enabled(ctx, o.Trace))
	e.srv.Start()
	if e.leaf != nil {
		go e.leaf.watch()
	}
	ready := make(chan bool, 1)
	go func() { ready <- e.srv.ReadyForConnections(startTimeout) }()
	select {
	case ok := <-ready:
		if ok {
			return e, nil
		}
		err = errors.New("did not open its port in time")
	case why := <-l.failed:
		err = errors.New(why)
	case <-ctx.Done():
		e.Stop()
		return nil, ctx.Err()
	}
	e.Stop()
	return nil, fmt.Errorf("embedded NATS server on %s: %w (is another NATS server running there? choose another address with embeddedNatsListen, port 0 for a free one)",
		net.JoinHostPort(settings.Host, fmt.Sprint(settings.Port)), err)
}

// InProcessConn opens a connection to the server that uses no socket.
//
// A leaf node's connection ends when a link to the hub is lost, however short: what the hub sent in
// between is missing, as if the connection itself had been lost. There is none before all links are
// up and what the hub subscribes to is known. InProcessConn waits for that, for 5 s at most; it
// does not wait for what needs a change of the settings (see LinkError).
func (e *Server) InProcessConn(ctx context.Context) (net.Conn, error) {
	if e.leaf == nil {
		return e.srv.InProcessConn()
	}
	return e.leaf.connect(ctx)
}

// UserKey returns the public nkey as which the gateway has to authenticate itself on in-process
// connections; empty if the server needs no authentication or takes credentials files.
func (e *Server) UserKey() string { return e.key }

// Sign signs a nonce with the key of UserKey.
func (e *Server) Sign(nonce []byte) ([]byte, error) { return e.user.Sign(nonce) }

// NeedsCreds reports whether only a credentials file authenticates the gateway, because an operator
// manages the server's accounts.
func (e *Server) NeedsCreds() bool { return e.creds }

// URL is where services connect to.
func (e *Server) URL() string { return e.srv.ClientURL() }

// Wait waits until the server has ended, also by Stop, and returns the reason.
func (e *Server) Wait() error {
	ended := make(chan struct{})
	go func() {
		e.srv.WaitForShutdown()
		close(ended)
	}()
	select {
	case why := <-e.failed:
		return errors.New(why)
	case <-ended:
		return errors.New("the server has ended")
	}
}

// Stop ends the server and every connection to it, and waits for that.
func (e *Server) Stop() {
	if e.leaf != nil {
		e.leaf.stop()
	}
	e.srv.Shutdown()
	e.srv.WaitForShutdown()
}
