// Package embednats owns the NATS server inside the gateway's process, for installations on one
// machine.
//
// It never authenticates clients, stores nothing, and leaves signals and the process's exit to the
// caller.
package embednats

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Options configure the server.
type Options struct {
	Listen string       // host:port that services connect to; port 0: any free one
	Log    *slog.Logger // the server's messages
	Trace  slog.Level   // their level for single protocol messages
}

// Server is a running NATS server. The gateway reaches it through an in-process
// connection; services reach it through its listener. It ends with Stop. Its
// methods are safe for concurrent use.
type Server struct {
	srv    *server.Server
	failed chan string // the server's first fatal error
}

// startTimeout bounds how long the listener may take to open.
const startTimeout = 10 * time.Second

// Start runs a server and returns when clients can connect. Its error says what to do. ctx bounds
// the wait.
func Start(ctx context.Context, o Options) (*Server, error) {
	host, portText, err := net.SplitHostPort(o.Listen)
	if err != nil {
		return nil, fmt.Errorf("embeddedNatsListen: %w", err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, fmt.Errorf("embeddedNatsListen: %q is not a port number", portText)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	srv, err := server.NewServer(&server.Options{
		ServerName: "sluice",
		Host:       host,
		Port:       port,
		NoSigs:     true,
	})
	if err != nil {
		return nil, fmt.Errorf("embedded NATS: %w", err)
	}
	l := &serverLog{log: o.Log.With("part", "nats-server"), trace: o.Trace, failed: make(chan string, 1)}
	srv.SetLogger(l, o.Log.Enabled(ctx, slog.LevelDebug), o.Log.Enabled(ctx, o.Trace))
	srv.Start()
	ready := make(chan bool, 1)
	go func() { ready <- srv.ReadyForConnections(startTimeout) }()
	e := &Server{srv: srv, failed: l.failed}
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
	return nil, fmt.Errorf("embedded NATS server on %s: %w (is another NATS server running there? choose another address with embeddedNatsListen, port 0 for a free one)", o.Listen, err)
}

// InProcessConn opens a connection to the server that uses no socket.
func (e *Server) InProcessConn() (net.Conn, error) { return e.srv.InProcessConn() }

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
	e.srv.Shutdown()
	e.srv.WaitForShutdown()
}

// serverLog is the server's logger (server.Logger). Notices are for debugging, so they get that
// level. A fatal error goes to Start or Wait, since the server must not end the process.
type serverLog struct {
	log    *slog.Logger
	trace  slog.Level
	failed chan string
}

func (l *serverLog) print(level slog.Level, format string, args []any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, strings.TrimSpace(fmt.Sprintf(format, args...)))
	}
}

func (l *serverLog) Noticef(format string, args ...any) { l.print(slog.LevelDebug, format, args) }
func (l *serverLog) Warnf(format string, args ...any)   { l.print(slog.LevelWarn, format, args) }
func (l *serverLog) Errorf(format string, args ...any)  { l.print(slog.LevelError, format, args) }
func (l *serverLog) Debugf(format string, args ...any)  { l.print(slog.LevelDebug, format, args) }

// Tracef logs a message of the server's protocol. Payloads are omitted: auth
// requests have the client's header in theirs, with its cookies.
func (l *serverLog) Tracef(format string, args ...any) {
	if before, _, ok := strings.Cut(format, " MSG_PAYLOAD:"); ok && len(args) > 0 {
		l.print(l.trace, before+" MSG_PAYLOAD omitted", args[:1])
		return
	}
	l.print(l.trace, format, args)
}

func (l *serverLog) Fatalf(format string, args ...any) {
	select {
	case l.failed <- fmt.Sprintf(format, args...):
	default: // the first one is the cause
	}
}
