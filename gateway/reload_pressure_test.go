package gateway

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"sluice/internal/testkit"
)

// reloadPressureCases are reloadCases of limits, timeouts and the admin port.
var reloadPressureCases = map[string]reloadCase{
	"requestTimeout": {base: func(c *Config) { c.RequestTimeout = time.Hour }, to: func(c *Config) { c.RequestTimeout = 50 * time.Millisecond }, proof: func(t *testing.T, r *reloadable) {
		r.serve("call.test.>", always(""))
		if answer, _ := r.dial().ask("call.test.a.never", ""); !strings.Contains(answer, "system.timeout") {
			t.Error(answer)
		}
		r.serve("get.slow.a", always(""))
		r.serve("access.slow.a", always(`{"result":{"get":true}}`))
		if answer, _ := r.dial().ask("subscribe.slow.a", ""); !strings.Contains(answer, "system.timeout") {
			t.Error(answer)
		}
	}},
	"queueTimeout": {base: func(c *Config) {
		c.MaxServiceRequests, c.MinServiceRequests, c.RequestTimeout = 1, 1, time.Hour
	}, to: func(c *Config) { c.QueueTimeout = 50 * time.Millisecond }, proof: func(t *testing.T, r *reloadable) {
		r.serve("call.busy.>", always(""))
		r.serve("access.busy.>", always(`{"result":{"call":"*"}}`))
		c := r.dial()
		c.ask("get.test.a", "") // the service replies
		for i := range 2 {
			c.send(`{"id":` + string(rune('7'+i)) + `,"method":"call.busy.a.b"}`)
		}
		if answer := c.next(); !strings.Contains(answer, "system.timeout") {
			t.Error(answer)
		}
	}},
	"natsGrace": {base: func(c *Config) { c.NATSGrace = time.Hour }, to: func(c *Config) { c.NATSGrace = Off }, proof: func(t *testing.T, r *reloadable) {
		c := r.dial()
		c.ask("version", "")
		r.grace.Lost(0)
		if code := c.end(); code != 1012 {
			t.Errorf("closed with %d", code)
		}
	}},
	"alternates": {to: func(c *Config) { c.Alternates = []string{otherGateway} }, proof: func(t *testing.T, r *reloadable) {
		c := r.dial()
		c.ask("version", "")
		r.owners.CloseClients()
		if code, reason := c.reason(); code != 1012 || reason != "try "+otherGateway {
			t.Errorf("closed with %d %q", code, reason)
		}
	}},
	"natsLossExit": {base: func(c *Config) { c.NATSGrace = Off }, to: func(c *Config) { c.NATSLossExit = true }, proof: func(t *testing.T, r *reloadable) {
		r.grace.Lost(0)
		if err := testkit.Await(t, r.Done(), "the end"); err == nil || !strings.Contains(err.Error(), "natsLossExit") {
			t.Error(err)
		}
	}},
	"acceptRate": {to: func(c *Config) { c.AcceptRate = 1 }, proof: func(t *testing.T, r *reloadable) {
		r.refusedWith(t, "503", 20)
	}},
	"acceptPace": {to: func(c *Config) { c.AcceptPace = 1 }, proof: func(t *testing.T, r *reloadable) {
		if runtime.GOOS != "linux" { // elsewhere gnet cannot be told to leave its listeners alone
			return
		}
		testkit.Until(t, "a loop leaves its listeners alone", func() bool {
			_, _ = io.WriteString(r.connect(t), "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
			return r.netMetrics.AcceptPauses.Load() > 0
		})
	}},
	"maxConnectionsPerIp": {to: func(c *Config) { c.MaxConnectionsPerIP = 3 }, proof: func(t *testing.T, r *reloadable) {
		r.refusedWith(t, "429", 4)
	}},
	"handshakeRatePerIp": {to: func(c *Config) { c.HandshakeRatePerIP = 1 }, proof: func(t *testing.T, r *reloadable) {
		r.refusedWith(t, "429", 1000)
	}},
	"limitExempt": {base: func(c *Config) { c.MaxConnectionsPerIP = 1 }, to: func(c *Config) { c.LimitExempt = []string{"127.0.0.0/8"} }, proof: func(t *testing.T, r *reloadable) {
		r.dial()
		r.dial()
	}},
	"requestRatePerIp": {to: func(c *Config) { c.RequestRatePerIP = 1 }, proof: func(t *testing.T, r *reloadable) {
		for range 1000 {
			if status, _ := r.get("/api/test/a"); status == http.StatusTooManyRequests {
				return
			}
		}
		t.Error("no request is refused")
	}},
	"maxServiceRequests": {base: func(c *Config) { c.MaxServiceRequests, c.RequestTimeout = -1, time.Hour }, to: func(c *Config) { c.MaxServiceRequests = 1 }, proof: func(t *testing.T, r *reloadable) {
		r.serve("access.full.>", always(""))
		r.serve("get.full.>", always("")) // without a responder, its error would end the access request
		c := r.dial()
		c.send(`{"id":1,"method":"get.full.a"}`)
		c.send(`{"id":2,"method":"get.full.b"}`)
		s := r.limits.Get("full")
		defer s.Drop()
		testkit.Until(t, "a request waits", func() bool { return s.State().InFlight == 1 && s.State().Waited > 0 })
		r.next.MaxServiceRequests = -1
		if err := r.Reload(context.Background()); err != nil {
			t.Fatal(err)
		}
		testkit.Until(t, "nothing waits without a limit", func() bool { return s.State().InFlight > 1 })
	}},
	"minServiceRequests": {to: func(c *Config) { c.MinServiceRequests = 500 }, proof: func(t *testing.T, r *reloadable) {
		r.dial().ask("get.test.a", "")
		s := r.limits.Get("test.a")
		defer s.Drop()
		if n := s.State().Limit; n != 500 {
			t.Errorf("the limit is %d", n)
		}
	}},
	"maxHead": {to: func(c *Config) { c.MaxHead = 1024 }, proof: func(t *testing.T, r *reloadable) {
		if status, _ := r.raw("GET /api/test/a HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 2000) + "\r\n\r\n"); status != "431" {
			t.Error(status)
		}
	}},
	"headTimeout": {base: func(c *Config) { c.HeadTimeout = time.Hour }, to: func(c *Config) { c.HeadTimeout = 100 * time.Millisecond }, proof: func(t *testing.T, r *reloadable) {
		if status, head := r.raw("GET / HTTP/1.1\r\nHost: x\r\n"); status != "408" {
			t.Error(head)
		}
	}},
	"httpIdleTimeout": {base: func(c *Config) { c.HTTPIdleTimeout = 24 * time.Hour }, to: func(c *Config) { c.HTTPIdleTimeout = 100 * time.Millisecond }, proof: func(t *testing.T, r *reloadable) {
		for _, path := range []string{"/api/test/a", "/elsewhere"} { // on a loop and at net/http
			conn := r.connect(t)
			_, _ = io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n")
			if _, err := io.Copy(io.Discard, conn); err != nil {
				t.Errorf("%s: it is not closed: %v", path, err)
			}
		}
	}},
	"handshakeTimeout": {base: func(c *Config) {
		useCertificate(1)(c)
		c.HandshakeTimeout, c.HeadTimeout = 10*time.Minute, time.Hour
	}, to: func(c *Config) { c.HandshakeTimeout = 100 * time.Millisecond }, proof: func(t *testing.T, r *reloadable) {
		if _, err := io.Copy(io.Discard, r.connect(t)); err != nil {
			t.Errorf("it is not closed: %v", err)
		}
		if n := r.netMetrics.TLSTimeout.Load(); n == 0 {
			t.Error("no timeout is counted")
		}
	}},
	"maxHandshakes": {base: func(c *Config) {
		useCertificate(1)(c)
		c.HandshakeTimeout = 10 * time.Minute
	}, to: func(c *Config) { c.MaxHandshakes = 1 }, proof: func(t *testing.T, r *reloadable) {
		stuck := deaf{r.connect(t), make(chan struct{})}
		t.Cleanup(func() { close(stuck.end) })
		go func() { _ = tls.Client(stuck, &tls.Config{InsecureSkipVerify: true}).Handshake() }()
		testkit.Until(t, "the handshake is given up for another", func() bool {
			conn, err := tls.Dial("tcp", r.Addr().String(), &tls.Config{InsecureSkipVerify: true})
			if err == nil {
				_ = conn.Close()
			}
			return r.netMetrics.TLSSilent.Load() > 0
		})
	}},
	"slowTimeout": {base: func(c *Config) { c.SlowTimeout = Off }, to: func(c *Config) { c.SlowTimeout = time.Second }, proof: func(t *testing.T, r *reloadable) {
		r.stall(t)
		testkit.Until(t, "the client is closed", func() bool { return r.netMetrics.SlowClosed.Load() > 0 })
	}},
	"backlogBytes": {base: func(c *Config) { c.SlowTimeout, c.BacklogBytes = Off, 1<<40 }, to: func(c *Config) { c.BacklogBytes = 1 << 20 }, proof: func(t *testing.T, r *reloadable) {
		r.stall(t)
		testkit.Until(t, "the client is closed", func() bool { return r.netMetrics.BacklogClosed.Load() > 0 })
	}},
	"cacheBytes": {base: func(c *Config) { c.CacheEviction = time.Hour }, to: func(c *Config) { c.CacheBytes = 1 << 20 }, proof: func(t *testing.T, r *reloadable) {
		r.serve("access.large.>", always(`{"result":{"get":true}}`))
		r.serve("get.large.>", always(`{"result":{"model":{"s":"`+strings.Repeat("x", 400<<10)+`"}}}`))
		for i := range 8 {
			r.get("/api/large/" + string(rune('a'+i)))
		}
		testkit.Until(t, "resources are evicted early", func() bool { return r.cacheMetrics.EvictedEarly.Load() > 0 })
	}},
	"pingInterval": {base: func(c *Config) { c.PingInterval = Off }, to: func(c *Config) { c.PingInterval = 100 * time.Millisecond }, proof: func(t *testing.T, r *reloadable) {
		c := r.dial()
		if h, err := ws.ReadHeader(c.br); err != nil || h.OpCode != ws.OpPing {
			t.Error(h, err)
		}
	}},
	"heartbeatInterval": {base: func(c *Config) { c.HeartbeatInterval = Off }, to: func(c *Config) { c.HeartbeatInterval = 100 * time.Millisecond }, proof: func(t *testing.T, r *reloadable) {
		conn := r.connect(t)
		_, _ = io.WriteString(conn, "GET /api/test/a HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
		for lines := bufio.NewScanner(conn); ; {
			if !lines.Scan() {
				t.Fatalf("no comment: %v", lines.Err())
			}
			if bytes.Equal(lines.Bytes(), []byte(":")) {
				return
			}
		}
	}},
	"closeTimeout": {to: func(c *Config) { c.CloseTimeout = time.Minute }, proof: func(t *testing.T, r *reloadable) {
		if got := r.StopWindow(); got != time.Minute {
			t.Errorf("a stop may take %v", got)
		}
	}},
	"adminTokenFile": {base: func(c *Config) { c.AdminPort = FreePort }, to: func(c *Config) { c.AdminTokenFile = "testdata/admin-token" }, proof: func(t *testing.T, r *reloadable) {
		for header, status := range map[string]int{"": 401, "Bearer 0123456789abcdef-wrong": 401, "Bearer 0123456789abcdef": 200} {
			req, _ := http.NewRequest(http.MethodGet, "http://"+r.AdminAddr().String()+"/api/overview", nil)
			req.Header.Set("Authorization", header)
			resp, err := http.DefaultTransport.RoundTrip(req)
			if err != nil || resp.StatusCode != status {
				t.Error(header, resp, err)
			}
		}
	}},
	"adminTlsCert": {base: adminCertificate(1), to: adminCertificate(2), also: []string{"adminTlsKey"}, proof: adminSerialIs(2)},
	"adminTlsKey":  {base: adminCertificate(0), to: adminCertificate(3), also: []string{"adminTlsCert"}, proof: adminSerialIs(3)},
	"adminClientCa": {base: adminCertificate(1), to: func(c *Config) { c.AdminClientCA = c.AdminTLSCert }, proof: func(t *testing.T, r *reloadable) {
		pair, err := tls.LoadX509KeyPair(r.next.AdminTLSCert, r.next.AdminTLSKey)
		if err != nil {
			t.Fatal(err)
		}
		for _, with := range [][]tls.Certificate{nil, {pair}} {
			transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: with}}
			resp, err := (&http.Client{Transport: transport}).Get("https://" + r.AdminAddr().String() + "/api/overview")
			if (err == nil) != (with != nil) {
				t.Errorf("%d certificates: %v, %v", len(with), resp, err)
			}
			transport.CloseIdleConnections()
		}
	}},
}

// connect opens a connection to the port for clients.
func (r *reloadable) connect(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", r.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(testkit.Patience))
	return conn
}

// refusedWith opens WebSockets until one is refused with a status.
func (r *reloadable) refusedWith(t *testing.T, status string, most int) {
	t.Helper()
	for range most {
		conn, _, _, err := ws.Dial(context.Background(), "ws://"+r.Addr().String()+"/")
		if err == nil {
			t.Cleanup(func() { _ = conn.Close() })
			continue
		}
		if !strings.Contains(err.Error(), status) {
			t.Errorf("refused with %v, want %s", err, status)
		}
		return
	}
	t.Errorf("of %d clients none is refused", most)
}

// stall has a client ask for 15 MB and not read them.
func (r *reloadable) stall(t *testing.T) {
	t.Helper()
	serveLong(r.live)
	_, _ = io.WriteString(r.connect(t), "GET /api/large/a HTTP/1.1\r\nHost: x\r\n\r\n")
}

// deaf is a connection on which nothing arrives.
type deaf struct {
	net.Conn
	end chan struct{}
}

func (d deaf) Read([]byte) (int, error) {
	<-d.end
	return 0, errors.New("nothing arrives")
}

// adminCertificate has the admin port serve over TLS; with a serial number of 0 without it.
func adminCertificate(serial int64) func(*Config) {
	return func(c *Config) {
		c.AdminPort = FreePort
		if serial == 0 {
			return
		}
		var made Config
		useCertificate(serial)(&made)
		c.AdminTLSCert, c.AdminTLSKey = made.TLSCert, made.TLSKey
	}
}

// adminSerialIs proves that new connections have a certificate, and that one with other settings is
// refused.
func adminSerialIs(want int64) func(*testing.T, *reloadable) {
	return func(t *testing.T, r *reloadable) {
		conn, err := tls.Dial("tcp", r.AdminAddr().String(), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if got := conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64(); got != want {
			t.Errorf("certificate %d, want %d", got, want)
		}
		ask := func() int {
			_, _ = io.WriteString(conn, "GET /api/overview HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			return resp.StatusCode
		}
		if status := ask(); status != 200 {
			t.Errorf("status %d", status)
		}
		if err := r.Reload(context.Background()); err != nil { // nothing changes
			t.Fatal(err)
		}
		if status := ask(); status != 200 {
			t.Errorf("status %d after a reload without changes", status)
		}
		r.next.AdminClientCA = r.next.AdminTLSCert
		if err := r.Reload(context.Background()); err != nil {
			t.Fatal(err)
		}
		if status := ask(); status != http.StatusMisdirectedRequest {
			t.Errorf("status %d of a connection without a client certificate", status)
		}
	}
}

// A gateway that has no admin port reads none of its files.
func TestReloadWithoutAdminPort(t *testing.T) {
	r := startReloadable(t, nil)
	r.next.AdminTokenFile = "testdata/none"
	if err := r.Reload(context.Background()); err != nil {
		t.Error(err)
	}
}

// What an admin port's settings name and cannot be used is an error, and nothing changes.
func TestReloadBadAdminFiles(t *testing.T) {
	r := startReloadable(t, func(c *Config) { c.AdminPort = FreePort })
	short := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(short, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.next.AdminTokenFile, r.next.MaxPending = short, 7
	if err := r.Reload(context.Background()); err == nil || !strings.Contains(err.Error(), "adminTokenFile: the file must have one token") {
		t.Error(err)
	}
	if n := r.reloader.Running().MaxPending; n == 7 {
		t.Error("half of the change was applied")
	}
}

// A dry run reads new certificates, and logs none of them as in use.
func TestDryRunAnnouncesNothing(t *testing.T) {
	r := startReloadable(t, adminCertificate(1))
	announced := func() int { return r.log.Count("level=INFO msg=certificate file=") }
	if n := announced(); n != 1 {
		t.Fatalf("%d certificates at the start", n)
	}
	adminCertificate(2)(&r.next)
	if status, body := r.request("POST", "/reload?dryRun=1"); status != 200 || !strings.Contains(body, "adminTlsCert") {
		t.Fatalf("%d %s", status, body)
	}
	if n := announced(); n != 1 {
		t.Errorf("%d certificates after a dry run:\n%s", n, r.log)
	}
	if err := r.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	if n := announced(); n != 2 {
		t.Errorf("%d certificates after the reload:\n%s", n, r.log)
	}
}
