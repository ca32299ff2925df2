package gateway

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

// embeddedNATS is a NATS server inside the process. The gateway reaches it
// through an in-process connection; services reach it through its listener.
// It stores nothing, installs no signal handlers, has no authentication, and
// ends with Stop. Its methods are safe for concurrent use.
type embeddedNATS struct{ srv *server.Server }

// embeddedStartTimeout bounds how long the listener may take to open.
const embeddedStartTimeout = 10 * time.Second

// startEmbedded runs a server that listens on host:port (port 0: any free one)
// and logs into log. It returns when clients can connect, or with an error that
// says what to do.
func startEmbedded(listen string, log *slog.Logger) (*embeddedNATS, error) {
	host, portText, err := net.SplitHostPort(listen)
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
	l := &natsLog{log: log.With("part", "nats-server"), failed: make(chan string, 1)}
	ctx := context.Background()
	srv.SetLogger(l, log.Enabled(ctx, slog.LevelDebug), log.Enabled(ctx, LevelTrace))
	srv.Start()
	ready := make(chan bool, 1)
	go func() { ready <- srv.ReadyForConnections(embeddedStartTimeout) }()
	e := &embeddedNATS{srv: srv}
	select {
	case ok := <-ready:
		if ok {
			return e, nil
		}
		err = errors.New("did not open its port in time")
	case why := <-l.failed:
		err = errors.New(why)
	}
	e.Stop()
	return nil, fmt.Errorf("embedded NATS server on %s: %w (is another NATS server running there? choose another address with embeddedNatsListen, port 0 for a free one)", listen, err)
}

// InProcessConn opens a connection to the server that uses no socket.
func (e *embeddedNATS) InProcessConn() (net.Conn, error) { return e.srv.InProcessConn() }

// URL is where services connect to.
func (e *embeddedNATS) URL() string { return e.srv.ClientURL() }

// Stop ends the server and every connection to it, and waits for that.
func (e *embeddedNATS) Stop() {
	e.srv.Shutdown()
	e.srv.WaitForShutdown()
}

// natsLog is the server's logger (server.Logger). What the server calls a notice is of interest
// to those who look for a fault, so it goes to debug. A fatal error is reported
// to the starter: the process is not the server's to end.
type natsLog struct {
	log    *slog.Logger
	failed chan string
}

func (l *natsLog) print(level slog.Level, format string, args []any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, strings.TrimSpace(fmt.Sprintf(format, args...)))
	}
}

func (l *natsLog) Noticef(format string, args ...any) { l.print(slog.LevelDebug, format, args) }
func (l *natsLog) Warnf(format string, args ...any)   { l.print(slog.LevelWarn, format, args) }
func (l *natsLog) Errorf(format string, args ...any)  { l.print(slog.LevelError, format, args) }
func (l *natsLog) Debugf(format string, args ...any)  { l.print(slog.LevelDebug, format, args) }
func (l *natsLog) Tracef(format string, args ...any)  { l.print(LevelTrace, format, args) }

func (l *natsLog) Fatalf(format string, args ...any) {
	select {
	case l.failed <- fmt.Sprintf(format, args...):
	default: // the first one is the cause
	}
}
