// Package natstest runs a real NATS server inside a test process, and breaks it on demand.
//
// It owns the server it starts and stops it with the test. It never fakes the protocol, never uses
// a fixed port, and is imported by tests only.
package natstest

import (
	"net"
	"net/url"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// patience bounds every wait for the server. It is reached only when something is broken.
const patience = 30 * time.Second

// Server is a NATS server on a loopback port. Its methods may be called from any goroutine; Stop,
// Start and Restart not at the same time.
type Server struct {
	tb testing.TB

	// Fixed by the first start.
	opts *server.Options
	port int

	mu  sync.Mutex
	srv *server.Server // nil while stopped
}

// Start runs a server on a port chosen by the system until the test ends. Each change may alter the
// server's options (accounts, TLS, limits) before it starts.
func Start(tb testing.TB, change ...func(*server.Options)) *Server {
	tb.Helper()
	s := New(tb, change...)
	s.Start()
	return s
}

// New reserves a port for a server that Start runs later. Nothing listens on it until then.
func New(tb testing.TB, change ...func(*server.Options)) *Server {
	tb.Helper()
	port, release, err := reservePort()
	if err != nil {
		tb.Fatalf("reserving a port: %v", err)
	}
	tb.Cleanup(release)
	s := &Server{tb: tb, port: port}
	s.opts = &server.Options{Host: "127.0.0.1", Port: s.port, NoLog: true, NoSigs: true, MaxControlLine: 4096,
		WriteDeadline: time.Minute} // a busy machine does not make a client a slow consumer
	for _, f := range change {
		f(s.opts)
	}
	tb.Cleanup(s.Stop)
	return s
}

// reservePort binds a socket to a port that the system chooses, and does not listen on it.
// Connections to the port are refused, and the system assigns it to no other socket. A server,
// which also binds with SO_REUSEADDR, can listen on it repeatedly.
func reservePort() (port int, release func(), err error) {
	syscall.ForkLock.RLock() // no child inherits it
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return 0, nil, err
	}
	release = func() { _ = syscall.Close(fd) } // nothing was written to it
	err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	if err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	var sa syscall.Sockaddr
	if err == nil {
		sa, err = syscall.Getsockname(fd)
	}
	if err != nil {
		release()
		return 0, nil, err
	}
	return sa.(*syscall.SockaddrInet4).Port, release, nil
}

// Start runs the server and returns when it accepts connections. On a running one it does nothing.
func (s *Server) Start() {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.srv != nil {
		return
	}
	srv, err := server.NewServer(s.opts.Clone())
	if err != nil {
		s.tb.Fatalf("nats-server: %v", err)
	}
	srv.Start()
	if !srv.ReadyForConnections(patience) {
		srv.Shutdown()
		s.tb.Fatalf("nats-server does not accept connections on port %d", s.port)
	}
	s.srv = srv
}

// Stop shuts the server down and returns when its port is free. On a stopped one it does nothing.
func (s *Server) Stop() {
	s.mu.Lock()
	srv := s.srv
	s.srv = nil
	s.mu.Unlock()
	if srv != nil {
		srv.Shutdown()
		srv.WaitForShutdown()
	}
}

// Restart stops the server and starts a new one on the same port, without any state.
func (s *Server) Restart() {
	s.tb.Helper()
	s.Stop()
	s.Start()
}

// Reload changes the options of the running server, as reloading a configuration file does, and
// those of later starts.
func (s *Server) Reload(change func(*server.Options)) {
	s.tb.Helper()
	change(s.opts)
	if err := s.Server().ReloadOptions(s.opts.Clone()); err != nil {
		s.tb.Fatalf("reloading the server's options: %v", err)
	}
}

// Change changes the options of later starts.
func (s *Server) Change(change func(*server.Options)) { change(s.opts) }

// URL is the server's address, also while it is stopped.
func (s *Server) URL() string {
	u := url.URL{Scheme: "nats", Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port))}
	return u.String()
}

// Server returns the running server, nil while it is stopped.
func (s *Server) Server() *server.Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.srv
}

// InProcess opens a connection that does not pass through the network stack.
func (s *Server) InProcess() (net.Conn, error) {
	srv := s.Server()
	if srv == nil {
		return nil, net.ErrClosed
	}
	return srv.InProcessConn()
}

// Cut closes the server's side of every connection with the client name (all if empty) and returns
// their number.
func (s *Server) Cut(name string) int {
	s.tb.Helper()
	srv := s.Server()
	if srv == nil {
		return 0
	}
	conns, err := srv.Connz(&server.ConnzOptions{Limit: 1 << 20})
	if err != nil {
		s.tb.Fatalf("listing the server's connections: %v", err)
	}
	cut := 0
	for _, c := range conns.Conns {
		if name != "" && c.Name != name {
			continue
		}
		if srv.DisconnectClientByID(c.Cid) == nil {
			cut++
		}
	}
	return cut
}

// Client connects as a service does, until the test ends. It reconnects within milliseconds.
func (s *Server) Client(options ...nats.Option) *nats.Conn {
	s.tb.Helper()
	nc, err := nats.Connect(s.URL(), append([]nats.Option{
		nats.Name("natstest"),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(10 * time.Millisecond),
		nats.ReconnectJitter(0, 0),
	}, options...)...)
	if err != nil {
		s.tb.Fatalf("connecting to %s: %v", s.URL(), err)
	}
	s.tb.Cleanup(nc.Close)
	return nc
}

// Retire puts the server into lame duck mode: it refuses new connections, announces its end, closes
// its connections one by one and ends. It returns when the server has ended. The options must have
// short lame duck times.
func (s *Server) Retire() {
	s.tb.Helper()
	srv := s.Server()
	srv.LameDuckShutdown()
	srv.WaitForShutdown()
	s.Stop()
}
