package proxies

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/nats-io/nats.go"

	"sluice/deploy/tools/testkit"
)

const (
	// patience is how long a condition may take on a busy machine.
	patience = 2 * time.Minute
	// clientIP is where clients come from: an address of the loopback network that is not the
	// proxy's, which is 127.0.0.1.
	clientIP = "127.0.0.2"
	// host is the name that the configurations serve.
	host = "realtime.example.com"
)

// proxy is a configuration of deploy/proxies, and how it is run.
type proxy struct {
	file     string
	program  string
	args     []string          // CONFIG is the file
	replace  map[string]string // of the file: what stands for addresses and paths of a real machine
	gateways []string          // settings of the gateways
	backends [2]string         // the gateways' addresses in the file

	// hidden replaces what docs/deploy.md says for hideHealth; nil: health checks are at the port
	// for clients.
	hidden map[string]string
}

var forwarded = []string{"--trust-forwarded-from", "127.0.0.1/32"}

var proxies = []proxy{
	{
		file: "nginx.conf", program: "nginx", args: []string{"-p", "DIR", "-c", "CONFIG", "-g", "daemon off; pid DIR/pid; error_log stderr notice;"},
		replace: map[string]string{
			"listen 443 ":                    "listen 127.0.0.1:PORT ",
			" backlog=65535":                 "",
			"/etc/ssl/sluice.crt":            "DIR/cert.pem",
			"/etc/ssl/private/sluice.key":    "DIR/key.pem",
			"worker_processes auto":          "worker_processes 1",
			"worker_rlimit_nofile 262144;\n": "",
			"worker_connections 131072":      "worker_connections 256",
			"http {\n":                       "http {\n client_body_temp_path DIR/b; proxy_temp_path DIR/p; fastcgi_temp_path DIR/f; uwsgi_temp_path DIR/u; scgi_temp_path DIR/s;\n",
		},
		gateways: forwarded, backends: [2]string{"10.0.0.11:8080", "10.0.0.12:8080"},
	},
	{
		file: "haproxy.cfg", program: "haproxy", args: []string{"-db", "-f", "CONFIG"},
		replace: map[string]string{
			"bind :443":               "bind 127.0.0.1:PORT",
			"/etc/haproxy/sluice.pem": "DIR/both.pem",
			"maxconn 200000":          "maxconn 200",
		},
		gateways: forwarded, backends: [2]string{"10.0.0.11:8080", "10.0.0.12:8080"},
		hidden: map[string]string{"default-server check ": "default-server check port 9090 "},
	},
	{
		file: "haproxy-tcp.cfg", program: "haproxy", args: []string{"-db", "-f", "CONFIG"},
		replace:  map[string]string{"bind :443": "bind 127.0.0.1:PORT", "maxconn 200000": "maxconn 200"},
		gateways: []string{"--proxy-protocol-from", "127.0.0.1/32", "--tls", "--tlscert", "DIR/cert.pem", "--tlskey", "DIR/key.pem"},
		backends: [2]string{"10.0.0.11:8443", "10.0.0.12:8443"},
		hidden:   map[string]string{"check-ssl verify none check-send-proxy": "port 9090"},
	},
	{
		file: "Caddyfile", program: "caddy", args: []string{"run", "--adapter", "caddyfile", "--config", "CONFIG"},
		replace: map[string]string{
			"realtime.example.com {\n": "{\n admin off\n auto_https disable_redirects\n}\nhttps://realtime.example.com:PORT {\n bind 127.0.0.1\n tls DIR/cert.pem DIR/key.pem\n",
		},
		gateways: forwarded, backends: [2]string{"10.0.0.11:8080", "10.0.0.12:8080"},
		hidden: map[string]string{"health_uri /readyz\n": "health_uri /readyz\n\t\thealth_port 9090\n"},
	},
}

// Each configuration whose proxy is installed serves WebSocket, REST and event streams, names the
// clients' addresses, and loses nothing when a gateway is stopped.
func TestProxies(t *testing.T) {
	for _, p := range proxies {
		t.Run(p.file, func(t *testing.T) {
			t.Parallel()
			if !testkit.Installed(t, p.program) {
				return
			}
			s := newSetup(t, p, nil)
			t.Run("rest", s.rest)
			t.Run("websocket", s.webSocket)
			t.Run("events", s.events)
			t.Run("smuggling", s.smuggling)
			t.Run("draining", s.draining)
		})
		if p.hidden == nil {
			continue
		}
		t.Run(p.file+" with hideHealth", func(t *testing.T) {
			t.Parallel()
			if !testkit.Installed(t, p.program) {
				return
			}
			s := newSetup(t, p, p.hidden)
			t.Run("rest", s.rest)
			t.Run("draining", s.draining)
		})
	}
}

// process is a program that runs until the test ends.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{}
	mu     sync.Mutex
	log    bytes.Buffer
	second syscall.Signal // follows SIGTERM when the test ends
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

func start(t *testing.T, program string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(program, args...), exited: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "XDG_DATA_HOME="+t.TempDir(), "XDG_CONFIG_HOME="+t.TempDir())
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // nginx's master ends its workers
		_ = p.cmd.Process.Signal(p.second)
		select {
		case <-p.exited:
		case <-time.After(patience):
			_ = p.cmd.Process.Kill()
			<-p.exited
		}
		if t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(program), p.output())
		}
	})
	return p
}

// until waits for a condition, which it tries again and again.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long until %s", what)
		}
		<-tick.C
	}
}

var listening = regexp.MustCompile(`msg=listening addr=\S*:(\d+)`)
var embedded = regexp.MustCompile(`nats://127\.0\.0\.1:\d+`)

var listeningMetrics = regexp.MustCompile(`msg="metrics server listening" .*?(?:addr|url)=\S*?127\.0\.0\.\d+:(\d+)`)

// gateway starts a gateway on a free port and returns that.
func gateway(t *testing.T, args ...string) (*process, string) {
	t.Helper()
	program := os.Getenv("SLUICE")
	if program == "" {
		program = "../../../bin/sluice"
	}
	p := start(t, program, append([]string{"--addr", "127.0.0.1", "--port", "-1"}, args...)...)
	p.second = syscall.SIGTERM // there is nothing to drain any more
	return p, p.find(t, listening)
}

// find waits until the log has a match, and returns its group, or all of it without groups.
func (p *process) find(t *testing.T, re *regexp.Regexp) (found string) {
	t.Helper()
	until(t, re.String()+" is logged", func() bool {
		select {
		case <-p.exited:
			t.Fatalf("%s has ended:\n%s", p.cmd.Path, p.output())
		default:
		}
		m := re.FindStringSubmatch(p.output())
		if m != nil {
			found = m[len(m)-1]
		}
		return m != nil
	})
	return found
}

// setup is a proxy with two gateways, and a service.
type setup struct {
	gateways [2]*process
	base     string // of the proxy: host and port
	nats     *nats.Conn
	client   *http.Client
	tls      *tls.Config

	mu    sync.Mutex
	addrs map[string]string // by the path of a request: the address that the service was told
}

// newSetup starts a proxy with its configuration; hidden replaces more of that, and hides the
// gateways' health at their ports for clients.
func newSetup(t *testing.T, p proxy, hidden map[string]string) *setup {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil { // workers of nginx have another user
		t.Fatal(err)
	}
	s := &setup{addrs: map[string]string{}, tls: certificate(t, dir)}
	s.service(t)
	in := strings.NewReplacer("DIR", dir)
	settings := []string{"--nats", s.nats.ConnectedUrl(), "--headauth", "test.who.login", "--wsheadauth", "test.who.login",
		"--shutdown-delay", "3s", "--drain-timeout", "1s"}
	for _, g := range p.gateways {
		settings = append(settings, in.Replace(g))
	}
	text, err := os.ReadFile(filepath.Join("../../proxies", p.file))
	if err != nil {
		t.Fatal(err)
	}
	config := string(text)
	replace := func(old, by string) {
		if !strings.Contains(config, old) {
			t.Fatalf("%s does not contain %q", p.file, old)
		}
		config = strings.ReplaceAll(config, old, by)
	}
	for old, by := range hidden {
		replace(old, by)
	}
	metrics := "-1" // the port of the first gateway is that of the second, too, at another address
	for i := range s.gateways {
		ip := "127.0.0.1"
		args := settings
		if hidden != nil {
			ip = fmt.Sprintf("127.0.0.%d", 11+i)
			args = append(slices.Clip(settings), "--addr", ip, "--hide-health", "--metricsport", metrics)
		}
		var port string
		s.gateways[i], port = gateway(t, args...)
		replace(p.backends[i], ip+":"+port)
		if hidden != nil {
			metrics = s.gateways[i].find(t, listeningMetrics)
		}
	}
	if hidden != nil {
		replace("9090", metrics)
	}
	for old, by := range p.replace {
		replace(old, by)
	}
	file := filepath.Join(dir, p.file)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(clientIP)}}
		return d.DialContext(ctx, "tcp", s.base)
	}
	transport := &http.Transport{DialContext: dial, TLSClientConfig: s.tls.Clone(), ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	s.client = &http.Client{Transport: transport, Timeout: patience}

	// Another program may take the free port before the proxy does: then there is another try.
	until(t, p.program+" runs", func() bool {
		port := testkit.FreePort(t)
		s.base = "127.0.0.1:" + port
		all := strings.NewReplacer("DIR", dir, "PORT", port, "CONFIG", file)
		if err := os.WriteFile(file, []byte(all.Replace(config)), 0o600); err != nil {
			t.Fatal(err)
		}
		var args []string
		for _, a := range p.args {
			args = append(args, all.Replace(a))
		}
		running := start(t, p.program, args...)
		up := false
		until(t, p.program+" answers or ends", func() bool {
			select {
			case <-running.exited:
				if !strings.Contains(strings.ToLower(running.output()), "in use") {
					t.Fatalf("%s:\n%s", p.program, running.output())
				}
				return true
			default:
			}
			status, _, err := s.get("/api/test/model?ready")
			up = err == nil && status == http.StatusOK
			return up
		})
		return up
	})
	return s
}

// certificate writes a certificate for host, and returns what a client needs to verify it.
func certificate(t *testing.T, dir string) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	pemKey := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	for name, text := range map[string][]byte{"cert.pem": cert, "key.pem": pemKey, "both.pem": append(append([]byte{}, cert...), pemKey...)} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(cert)
	return &tls.Config{RootCAs: pool, ServerName: host}
}

// service answers requests about test.model, and takes note of the addresses of clients. Its NATS
// server is that of a third gateway.
func (s *setup) service(t *testing.T) {
	t.Helper()
	server, _ := gateway(t, "--embedded-nats", "--embedded-nats-listen", "127.0.0.1:0")
	var err error
	if s.nats, err = nats.Connect(server.find(t, embedded)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.nats.Close)
	for subject, answer := range map[string]string{
		"access.test.model":   `{"result":{"get":true}}`,
		"get.test.model":      `{"result":{"model":{"message":"hello"}}}`,
		"auth.test.who.login": `{"result":null}`,
	} {
		_, err := s.nats.Subscribe(subject, func(m *nats.Msg) {
			var request struct {
				URI        string `json:"uri"`
				RemoteAddr string `json:"remoteAddr"`
			}
			if json.Unmarshal(m.Data, &request) == nil && request.URI != "" {
				s.mu.Lock()
				s.addrs[request.URI] = request.RemoteAddr
				s.mu.Unlock()
			}
			_ = m.Respond([]byte(answer))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.nats.Flush(); err != nil {
		t.Fatal(err)
	}
}

// wantAddress checks which address the service was told for a request.
func (s *setup) wantAddress(t *testing.T, uri string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	addr, ok := s.addrs[uri]
	if name, _, err := net.SplitHostPort(addr); err == nil {
		addr = name
	}
	if !ok || addr != clientIP {
		t.Errorf("the service was told the address %q for %s, want %s; it knows %v", addr, uri, clientIP, s.addrs)
	}
}

// forged are headers with which a client would choose its address.
var forged = http.Header{"X-Forwarded-For": {"6.6.6.6"}, "Forwarded": {"for=6.6.6.6"}}

func (s *setup) get(uri string) (status int, body string, err error) {
	req, err := http.NewRequest(http.MethodGet, "https://"+host+uri, nil)
	if err != nil {
		return 0, "", err
	}
	req.Header = forged.Clone()
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

func (s *setup) rest(t *testing.T) {
	status, body, err := s.get("/api/test/model?rest")
	if err != nil || status != http.StatusOK || !strings.Contains(body, `"message":"hello"`) {
		t.Fatalf("%d %v %s", status, err, body)
	}
	s.wantAddress(t, "/api/test/model?rest")
	if status, body, err = s.get("/api/test/none"); err != nil || status != http.StatusNotFound && status != http.StatusUnauthorized && status != http.StatusForbidden && status != http.StatusServiceUnavailable {
		t.Errorf("a resource that is not there: %d %v %s", status, err, body)
	}
}

// dial opens a WebSocket and subscribes to test.model.
func (s *setup) dial(t *testing.T, path string) net.Conn {
	t.Helper()
	d := ws.Dialer{
		Timeout: patience, TLSConfig: s.tls, Header: ws.HandshakeHeaderHTTP(forged),
		NetDial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(clientIP)}}
			return d.DialContext(ctx, "tcp", s.base)
		},
	}
	conn, early, _, err := d.Dial(t.Context(), "wss://"+host+path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	if early != nil && early.Buffered() > 0 {
		t.Fatal("the gateway speaks first")
	}
	return conn
}

func (s *setup) webSocket(t *testing.T) {
	conn := s.dial(t, "/?websocket")
	if err := wsutil.WriteClientText(conn, []byte(`{"id":1,"method":"subscribe.test.model"}`)); err != nil {
		t.Fatal(err)
	}
	if text, err := wsutil.ReadServerText(conn); err != nil || !strings.Contains(string(text), `"hello"`) {
		t.Fatalf("%v %s", err, text)
	}
	s.wantAddress(t, "/?websocket")
	s.publish(t, "websocket")
	if text, err := wsutil.ReadServerText(conn); err != nil || !strings.Contains(string(text), `"websocket"`) {
		t.Errorf("%v %s", err, text)
	}
}

// publish sends an event of test.model.
func (s *setup) publish(t *testing.T, message string) {
	t.Helper()
	if err := s.nats.Publish("event.test.model.change", fmt.Appendf(nil, `{"values":{"message":%q}}`, message)); err != nil {
		t.Fatal(err)
	}
}

// events reads a stream: each event arrives before the next one is sent, so the proxy holds none.
func (s *setup) events(t *testing.T) {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+host+"/api/test/model?events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = forged.Clone()
	req.Header.Set("Accept", "text/event-stream")
	resp, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || !strings.HasPrefix(got, "text/event-stream") {
		t.Fatalf("%s %s", resp.Status, got)
	}
	lines := bufio.NewScanner(resp.Body)
	wait := func(text string) {
		t.Helper()
		for lines.Scan() {
			if strings.Contains(lines.Text(), text) {
				return
			}
		}
		t.Fatalf("the stream ended before %s: %v", text, lines.Err())
	}
	wait(`"message"`)
	for i := range 3 {
		text := fmt.Sprintf("event %d", i)
		s.publish(t, text)
		wait(text)
	}
	s.wantAddress(t, "/api/test/model?events")
}

// draining stops a gateway: WebSockets on it are closed with 1001, and no request fails, before,
// during and after that.
func (s *setup) draining(t *testing.T) {
	first := s.gateways[0]
	var conns []net.Conn
	for range 8 { // some of them are on the first gateway
		conns = append(conns, s.dial(t, "/?draining"))
	}
	closes := make(chan ws.StatusCode, len(conns))
	for _, conn := range conns {
		go func() {
			_, _, err := wsutil.ReadServerData(conn)
			var closed wsutil.ClosedError
			errors.As(err, &closed)
			closes <- closed.Code
		}()
	}
	if err := first.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	after := 0
	for i := 0; after < 20; i++ {
		select {
		case <-first.exited:
			after++
		default:
		}
		if status, body, err := s.get(fmt.Sprintf("/api/test/model?drain=%d", i)); err != nil || status != http.StatusOK {
			t.Fatalf("request %d, %d after the end of a gateway: %d %v %s", i, after, status, err, body)
		}
	}
	if code := first.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("the gateway's exit code is %d:\n%s", code, first.output())
	}
	if code := <-closes; code != ws.StatusGoingAway {
		t.Errorf("a WebSocket was closed with %d, want 1001", code)
	}
	s.dial(t, "/?after")
	s.wantAddress(t, "/?after")
}
