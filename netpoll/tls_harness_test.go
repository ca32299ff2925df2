package netpoll

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"sync"
	"testing"

	"sluice/internal/selfsigned"
)

// testCert is valid for 127.0.0.1, and the root that clientTLS trusts.
var testCert = sync.OnceValue(func() tls.Certificate {
	pair, err := selfsigned.New("127.0.0.1")
	if err != nil {
		panic(err)
	}
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		panic(err)
	}
	return cert
})

func serverTLS() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{testCert()}, NextProtos: []string{protoH2, "http/1.1"}}
}

// clientTLS is for clients that speak the given version, or any if it is 0.
func clientTLS(version uint16) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(testCert().Leaf)
	return &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", MinVersion: version, MaxVersion: version}
}

// withTLS adds TLS to the options of a test's server.
func withTLS(change func(o *Options, h *testHandler)) func(o *Options, h *testHandler) {
	return func(o *Options, h *testHandler) {
		o.TLS = serverTLS()
		if change != nil {
			change(o, h)
		}
	}
}

// serveTLS starts a server of one loop that speaks TLS.
func serveTLS(t testing.TB, change func(o *Options, h *testHandler)) *server {
	t.Helper()
	return serve(t, withTLS(change))
}

// dialTLS returns a client whose handshake is done.
func dialTLS(t testing.TB, addr net.Addr, config *tls.Config) (*client, *tls.Conn) {
	t.Helper()
	return overTLS(t, dial(t, addr).Conn, config)
}

// overTLS does the handshake on raw.
func overTLS(t testing.TB, raw net.Conn, config *tls.Config) (*client, *tls.Conn) {
	t.Helper()
	c := tls.Client(raw, config)
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	return &client{c, t, bufio.NewReader(c)}, c
}

// connectTLS returns an open WebSocket and its server side.
func (s *server) connectTLS(config *tls.Config) (*client, *tls.Conn, *Conn) {
	s.t.Helper()
	c, conn := dialTLS(s.t, s.Addr(), config)
	c.send([]byte(upgradeHead("/ws", "")))
	c.upgraded()
	return c, conn, await(s.t, s.h.opened, "Open")
}

// wantHandshakes checks how the handshakes ended, and that no worker and no queue is left.
func (s *server) wantHandshakes(done, failed, timeout, refused uint64) {
	s.t.Helper()
	m := s.m
	s.until("the ends of all handshakes", func() bool {
		p := s.handshakes
		p.mu.Lock()
		defer p.mu.Unlock()
		return m.TLSHandshaking.Load() == 0 && p.workers == 0 && p.queue.Len() == 0
	})
	got := [4]uint64{m.TLSDone.Load(), m.TLSFailed.Load(), m.TLSTimeout.Load(), m.TLSRefused.Load()}
	if want := [4]uint64{done, failed, timeout, refused}; got != want {
		s.t.Errorf("handshakes done, failed, timed out, refused: %v, want %v", got, want)
	}
	if n := m.TLSStarted.Load(); n != done+failed+timeout+refused {
		s.t.Errorf("%d handshakes were started", n)
	}
}

// workers returns how many handshakes have a worker.
func (s *server) workers() int {
	s.handshakes.mu.Lock()
	defer s.handshakes.mu.Unlock()
	return s.handshakes.workers
}

// bytewise sends every byte by itself.
type bytewise struct{ net.Conn }

func (b bytewise) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := b.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

// gated passes input on only while the gate is open.
type gated struct {
	net.Conn
	gate chan struct{} // closed: open
}

func (g gated) Read(p []byte) (int, error) {
	<-g.gate
	return g.Conn.Read(p)
}

// clientHello returns what a client says first.
func clientHello(t testing.TB) []byte {
	a, b := net.Pipe()
	defer b.Close()
	go func() {
		_ = tls.Client(a, clientTLS(0)).Handshake()
		_ = a.Close()
	}()
	buf := make([]byte, 16<<10)
	n, err := b.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

// secureClient is an HTTP client that speaks HTTP/2 if h2 is set, else HTTP/1.1.
func secureClient(t testing.TB, h2 bool) *http.Client {
	config := clientTLS(0)
	config.ServerName = ""
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: h2}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}
