package gateway

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"maps"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/nats-io/nats.go"

	"sluice/internal/config"
	"sluice/internal/owners"
	"sluice/internal/reload"
	"sluice/internal/testkit"
)

// reloadable is a gateway whose settings can be read again.
type reloadable struct {
	*live
	next Config // what a reload finds
	err  error  // what reading it gives
	log  *testkit.Log
}

func startReloadable(t *testing.T, change func(*Config)) *reloadable {
	t.Helper()
	r := &reloadable{log: new(testkit.Log)}
	g := create(t, func(c *Config) {
		c.Loops, c.Shards = 2, 2
		c.MetricsPort = FreePort
		c.Log, c.Level = r.log.Logger(), new(slog.LevelVar)
		if change != nil {
			change(c)
		}
		r.next = *c
		c.Reread = func() (Config, []string, error) { return r.next, []string{"a warning"}, r.err }
	})
	t.Cleanup(func() {
		for _, c := range []*Config{&g.config, &r.next} {
			if c.TLSCert != "" {
				_ = os.RemoveAll(filepath.Dir(c.TLSCert))
			}
		}
	})
	r.live = start(t, g)
	r.serve("access.test.>", always(`{"result":{"get":true,"call":"*"}}`))
	r.serve("get.test.>", always(`{"result":{"model":{"n":1}}}`))
	return r
}

// onLoops runs f on each loop.
func (r *reloadable) onLoops(f func(*owners.Loop)) {
	r.tb.Helper()
	r.owners.EachLoop(func(l *owners.Loop) {
		done := make(chan struct{})
		l.Post(func() {
			defer close(done)
			f(l)
		})
		testkit.Await(r.tb, done, "a loop")
	})
}

// reloadCase is a change of a setting.
type reloadCase struct {
	base, to func(*Config)
	also     []string // settings that change with it
	proof    func(t *testing.T, r *reloadable)
}

// reloadCases prove for each reloadable setting that the running gateway has the new value, where
// clients see it if that is possible.
var reloadCases = map[string]reloadCase{
	"maxSubscriptions": {to: func(c *Config) { c.MaxSubscriptions = 1 }, proof: func(t *testing.T, r *reloadable) {
		c := r.dial()
		c.ask("subscribe.test.a", "")
		if answer, _ := c.ask("subscribe.test.a", ""); !strings.Contains(answer, "subscriptionLimitExceeded") {
			t.Error(answer)
		}
	}},
	"maxResources": {to: func(c *Config) { c.MaxResources = 1 }, proof: func(t *testing.T, r *reloadable) {
		c := r.dial()
		c.ask("subscribe.test.a", "")
		if answer, _ := c.ask("subscribe.test.b", ""); !strings.Contains(answer, "error") {
			t.Error(answer)
		}
	}},
	"maxPending": {to: func(c *Config) { c.MaxPending = 7 }, proof: func(t *testing.T, r *reloadable) {
		r.onLoops(func(l *owners.Loop) {
			if l.Env.Limits.Requests != 7 {
				t.Error(l.Env.Limits.Requests)
			}
		})
	}},
	"heldEvents": {to: func(c *Config) { c.HeldEvents = 7 }, proof: func(t *testing.T, r *reloadable) {
		r.onLoops(func(l *owners.Loop) {
			if l.Env.Limits.HeldEvents != 7 {
				t.Error(l.Env.Limits.HeldEvents)
			}
		})
	}},
	"referenceThrottle": {to: func(c *Config) { c.ReferenceThrottle = 7 }, proof: func(t *testing.T, r *reloadable) {
		r.onLoops(func(l *owners.Loop) {
			if l.Env.Limits.References != 7 {
				t.Error(l.Env.Limits.References)
			}
		})
	}},
	"resetThrottle": {to: func(c *Config) { c.ResetThrottle = 1 }, proof: func(t *testing.T, r *reloadable) {
		granted := 0
		r.resets.Acquire(func() { granted++ })
		r.resets.Acquire(func() { granted++ })
		if granted != 1 {
			t.Errorf("%d granted", granted)
		}
		r.resets.Release()
		r.resets.Release()
		r.onLoops(func(l *owners.Loop) {
			if l.Env.Reset == nil {
				t.Error("a loop does not use the throttle")
			}
		})
	}},
	"maxMessage": {to: func(c *Config) { c.MaxMessage = 1024 }, proof: func(t *testing.T, r *reloadable) {
		c := r.dial()
		c.send(strings.Repeat(" ", 2000))
		if code := c.end(); code != 1009 {
			t.Errorf("closed with %d", code)
		}
	}},
	"maxBody": {to: func(c *Config) { c.MaxBody = 1024 }, proof: func(t *testing.T, r *reloadable) {
		resp, err := http.Post("http://"+r.Addr().String()+"/api/test/a/set", "application/json", strings.NewReader(`"`+strings.Repeat("x", 2000)+`"`))
		if err != nil || resp.StatusCode != http.StatusRequestEntityTooLarge {
			t.Error(resp, err)
		}
	}},
	"maxConnections": {to: func(c *Config) { c.MaxConnections = 1 }, proof: func(t *testing.T, r *reloadable) {
		r.dial()
		if _, _, _, err := ws.Dial(context.Background(), "ws://"+r.Addr().String()+"/"); err == nil || !strings.Contains(err.Error(), "503") {
			t.Error(err)
		}
	}},
	"messageRate": {to: func(c *Config) { c.MessageRate = 1 }, proof: func(t *testing.T, r *reloadable) {
		c := r.dial()
		for range 20 {
			c.send(`{"id":1,"method":"version"}`)
		}
		testkit.Until(t, "the client is throttled", func() bool { return r.netMetrics.MessagesThrottled.Load() > 0 })
	}},
	"byteRate": {to: func(c *Config) { c.ByteRate = 64 << 10 }, proof: func(t *testing.T, r *reloadable) {
		r.dial().send(`{"id":1,"method":"version","params":"` + strings.Repeat("x", 700<<10) + `"}`)
		testkit.Until(t, "the client is throttled", func() bool { return r.netMetrics.BytesThrottled.Load() > 0 })
	}},
	"outboxBytes": {to: func(c *Config) { c.OutboxBytes = 1 << 20 }, proof: func(t *testing.T, r *reloadable) {
		c := r.reloader.Running().WithDefaults() // netpoll and httpapi test the rest
		if c.NetLimits(0, 0).OutboxBytes != 1<<20 || c.HTTPOptions().StreamBytes != 1<<20 {
			t.Error(c.OutboxBytes)
		}
	}},
	"httpBacklogBytes": {to: func(c *Config) { c.HTTPBacklogBytes = 2 << 20 }, proof: func(t *testing.T, r *reloadable) {
		c := r.reloader.Running().WithDefaults() // httpapi tests the rest
		if c.HTTPOptions().MaxBacklog != 2<<20 {
			t.Error(c.HTTPBacklogBytes)
		}
	}},
	"httpCompression": {to: func(c *Config) { c.HTTPCompression = 1 }, proof: func(t *testing.T, r *reloadable) {
		r.serve("access.zip.a", always(`{"result":{"get":true}}`))
		r.serve("get.zip.a", always(`{"result":{"model":{"s":"`+strings.Repeat("x", 500)+`"}}}`))
		req, _ := http.NewRequest(http.MethodGet, "http://"+r.Addr().String()+"/api/zip/a", nil)
		req.Header.Set("Accept-Encoding", "gzip")
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil || resp.Header.Get("Content-Encoding") != "gzip" {
			t.Error(resp, err)
		}
	}},
	"allowOrigin": {to: func(c *Config) { c.AllowOrigin = "https://a.example" }, proof: func(t *testing.T, r *reloadable) {
		for origin, status := range map[string]int{"https://a.example": 200, "https://b.example": 403} {
			req, _ := http.NewRequest(http.MethodGet, "http://"+r.Addr().String()+"/api/test/a", nil)
			req.Header.Set("Origin", origin)
			resp, err := http.DefaultTransport.RoundTrip(req)
			if err != nil || resp.StatusCode != status || resp.Header.Get("Vary") != "Origin" {
				t.Error(origin, resp, err)
			}
			d := ws.Dialer{Header: ws.HandshakeHeaderString("Origin: " + origin + "\r\n")}
			conn, _, _, err := d.Dial(context.Background(), "ws://"+r.Addr().String()+"/")
			if (err == nil) != (status == 200) {
				t.Errorf("WebSocket of %s: %v", origin, err)
			}
			if err == nil {
				_ = conn.Close()
			}
		}
		// The loops' own responses have the field, too.
		if status, head := r.raw("nonsense\r\n\r\n"); status != "400" || !strings.Contains(head, "Vary: Origin\r\n") {
			t.Error(status, head)
		}
	}},
	"proxyProtocolFrom": {to: func(c *Config) { c.ProxyProtocolFrom = []string{"127.0.0.0/8"} }, proof: func(t *testing.T, r *reloadable) {
		if status, head := r.raw("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"); status != "200" {
			t.Error(head)
		}
	}},
	"trustForwardedFrom": {to: func(c *Config) { c.TrustForwardedFrom = []string{"127.0.0.0/8"} }, proof: func(t *testing.T, r *reloadable) {
		var got atomic.Value
		r.serve("auth.test.login", func(m *nats.Msg) string {
			got.Store(string(m.Data))
			return `{"result":null}`
		})
		d := ws.Dialer{Header: ws.HandshakeHeaderString("X-Forwarded-For: 192.0.2.7\r\n")}
		conn, _, _, err := d.Dial(context.Background(), "ws://"+r.Addr().String()+"/")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		_ = ws.WriteFrame(conn, ws.MaskFrame(ws.NewTextFrame([]byte(`{"id":1,"method":"auth.test.login"}`))))
		testkit.Until(t, "the service has the request", func() bool { return got.Load() != nil })
		if text := got.Load().(string); !strings.Contains(text, `"remoteAddr":"192.0.2.7"`) {
			t.Error(text)
		}
	}},
	"maxResourceBytes": {to: func(c *Config) { c.MaxResourceBytes = 1 << 16 }, proof: func(t *testing.T, r *reloadable) {
		r.serve("get.large.a", always(`{"result":{"model":{"s":"`+strings.Repeat("x", 1<<17)+`"}}}`))
		r.serve("access.large.a", always(`{"result":{"get":true}}`))
		if answer, _ := r.dial().ask("subscribe.large.a", ""); !strings.Contains(answer, "maxResourceBytes") {
			t.Errorf("%.200s", answer)
		}
	}},
	"cacheEviction": {to: func(c *Config) { c.CacheEviction = Off }, proof: func(t *testing.T, r *reloadable) {
		var gets atomic.Int32
		r.serve("access.evict.a", always(`{"result":{"get":true}}`))
		r.serve("get.evict.a", func(*nats.Msg) string {
			gets.Add(1)
			return `{"result":{"model":{}}}`
		})
		c := r.dial()
		testkit.Until(t, "the resource is fetched again", func() bool {
			c.ask("subscribe.evict.a", "")
			c.ask("unsubscribe.evict.a", "")
			return gets.Load() > 1
		})
	}},
	"cacheEvictionMost": {base: func(c *Config) { c.CacheEviction, c.CacheEvictionMost = time.Millisecond, Off }, to: func(c *Config) { c.CacheEvictionMost = time.Hour }, proof: func(t *testing.T, r *reloadable) {
		r.serve("access.evict.b", always(`{"result":{"get":true}}`))
		r.serve("get.evict.b", always(`{"result":{"model":{}}}`))
		c := r.dial()
		testkit.Until(t, "a return is noticed", func() bool {
			c.ask("subscribe.evict.b", "")
			c.ask("unsubscribe.evict.b", "")
			return r.cacheMetrics.LateReturns.Load() > 0
		})
	}},
	"shutdownDelay": {to: func(c *Config) { c.ShutdownDelay = time.Minute }, proof: windowIs(time.Minute + 5*time.Second)},
	"drainTimeout":  {to: func(c *Config) { c.DrainTimeout = time.Minute }, proof: windowIs(time.Minute + 5*time.Second)},
	"debug":         {to: func(c *Config) { c.Debug = true }, proof: levelIs(slog.LevelDebug)},
	"trace":         {to: func(c *Config) { c.Trace = true }, proof: levelIs(LevelTrace)},
	"jwtJwks":       {base: useSecret, to: func(c *Config) { c.JWTJWKS = "testdata/jwks.json" }, proof: bearerGets(esToken, 200)},
	"jwtSecret":     {base: useSecret, to: func(c *Config) { c.JWTSecret = tokenSecret2 }, proof: bearerGets(signed(tokenSecret2, `{}`), 200)},
	"jwtSecretFile": {base: useSecretFile(""), to: useSecretFile("-2"), proof: bearerGets(signed(tokenSecret2, `{}`), 200)},
	"jwtIssuer":     {base: useSecret, to: func(c *Config) { c.JWTIssuer = "x" }, proof: bearerGets(signed(tokenSecret, `{"iss":"y"}`), 401)},
	"jwtAudience":   {base: useSecret, to: func(c *Config) { c.JWTAudience = []string{"x"} }, proof: bearerGets(signed(tokenSecret, `{"aud":["y"]}`), 401)},
	"jwtAlgorithms": {base: useSecret, to: func(c *Config) { c.JWTAlgorithms = []string{"HS512"} }, proof: bearerGets(signed(tokenSecret, `{}`), 401)},
	"jwtClockSkew":  {base: useSecret, to: func(c *Config) { c.JWTClockSkew = time.Hour }, proof: bearerGets(endsIn(-10*time.Minute), 200)},
	"jwtCookie": {base: useSecret, to: func(c *Config) { c.JWTCookie = "jwt" }, proof: func(t *testing.T, r *reloadable) {
		if status, head := r.tokenRequest("/api/test/a", "Cookie: jwt="+signed(tokenSecret, `{}`)); status != 200 || !strings.Contains(head, "Access-Control-Allow-Credentials: true") {
			t.Error(head)
		}
	}},
	"jwtQuery": {base: useSecret, to: func(c *Config) { c.JWTQuery = "t" }, proof: func(t *testing.T, r *reloadable) {
		if status, head := r.tokenRequest("/api/test/a?t="+signed(tokenSecret, `{}`), "A: b"); status != 200 {
			t.Error(head)
		}
	}},
	"jwtAnonymous": {base: useSecret, to: func(c *Config) { c.JWTAnonymous = "invalid" }, proof: bearerGets("nonsense", 200)},
	"jwtClaims":    {base: useSecret, to: func(c *Config) { c.JWTClaims = []string{"id=sub"} }, proof: serviceSees(`"token":{"id":"ada"}`)},
	"jwtTid":       {base: useSecret, to: func(c *Config) { c.JWTTID = "sub" }, proof: tokenIDIs("ada")},
	"jwtRefresh": {base: useSecret, to: func(c *Config) { c.JWTRefresh = time.Hour }, proof: func(t *testing.T, r *reloadable) {
		if c := r.reloader.Running().WithDefaults(); c.JWT().Refresh != time.Hour { // jwtauth tests the rest
			t.Error(c.JWT().Refresh)
		}
	}},
	"jwtMethod": {base: useSecret, to: func(c *Config) { c.JWTMethod = "gateway.login" }, proof: func(t *testing.T, r *reloadable) {
		c := r.dialWith(signed(tokenSecret, `{}`))
		if answer, _ := c.ask("auth.gateway.login", `{"token":"x"}`); !strings.Contains(answer, "the token is malformed") {
			t.Error(answer)
		}
	}},
	"tlsCert": {base: useCertificate(1), to: useCertificate(2), also: []string{"tlsKey"}, proof: serialIs(2)},
	"tlsKey":  {base: useCertificate(1), to: useCertificate(3), also: []string{"tlsCert"}, proof: serialIs(3)},
}

func windowIs(want time.Duration) func(*testing.T, *reloadable) {
	return func(t *testing.T, r *reloadable) {
		if got := r.StopWindow(); got != want {
			t.Errorf("a stop may take %v, want %v", got, want)
		}
		r.next.ShutdownDelay, r.next.DrainTimeout = 0, Off // the end of the test does not wait
		if err := r.Reload(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

func levelIs(want slog.Level) func(*testing.T, *reloadable) {
	return func(t *testing.T, r *reloadable) {
		if got := r.config.Level.Level(); got != want {
			t.Errorf("level %v, want %v", got, want)
		}
	}
}

// useCertificate serves over TLS with a new certificate of a serial number.
func useCertificate(serial int64) func(*Config) {
	return func(c *Config) {
		dir, err := os.MkdirTemp("", "sluice")
		if err != nil {
			panic(err)
		}
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			panic(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: []string{"x.example"}, NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			panic(err)
		}
		keyDER, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			panic(err)
		}
		c.TLS, c.TLSCert, c.TLSKey = true, filepath.Join(dir, "c.pem"), filepath.Join(dir, "k.pem")
		for file, block := range map[string]*pem.Block{c.TLSCert: {Type: "CERTIFICATE", Bytes: der}, c.TLSKey: {Type: "PRIVATE KEY", Bytes: keyDER}} {
			if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
				panic(err)
			}
		}
	}
}

func serialIs(want int64) func(*testing.T, *reloadable) {
	return func(t *testing.T, r *reloadable) {
		conn, err := tls.Dial("tcp", r.Addr().String(), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if got := conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64(); got != want {
			t.Errorf("certificate %d, want %d", got, want)
		}
	}
}

// raw sends bytes and returns the status and the head of the response.
func (r *reloadable) raw(text string) (status, head string) {
	r.tb.Helper()
	conn, err := net.Dial("tcp", r.Addr().String())
	if err != nil {
		r.tb.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(testkit.Patience))
	_, _ = io.WriteString(conn, text)
	b := make([]byte, 1<<16)
	n := 0
	for n < len(b) && !bytes.Contains(b[:n], []byte("\r\n\r\n")) {
		more, err := conn.Read(b[n:])
		if err != nil {
			break
		}
		n += more
	}
	_, rest, _ := strings.Cut(string(b[:n]), " ")
	return rest[:min(3, len(rest))], string(b[:n])
}

// reloadableKeys returns the settings that the table calls reloadable.
func reloadableKeys(t *testing.T) (keys []string) {
	t.Helper()
	var schema struct {
		Properties map[string]struct {
			Reload bool `json:"x-reload"`
		}
	}
	if err := json.Unmarshal(config.Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	for key, row := range schema.Properties {
		if row.Reload {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		t.Fatal("no setting is reloadable")
	}
	return keys
}

// allReloadCases returns the cases of both tables.
func allReloadCases() map[string]reloadCase {
	all := maps.Clone(reloadCases)
	maps.Copy(all, reloadPressureCases)
	return all
}

// Every setting that the table calls reloadable takes effect in a running gateway.
func TestReloadableSettings(t *testing.T) {
	keys, cases := reloadableKeys(t), allReloadCases()
	for _, key := range keys {
		tc, ok := cases[key]
		if !ok {
			t.Errorf("%s is reloadable: prove it with a case in reloadCases", key)
			continue
		}
		t.Run(key, func(t *testing.T) {
			r := startReloadable(t, tc.base)
			tc.to(&r.next)
			result, err := r.reloader.Reload(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			var changed []string
			for _, c := range result.Changed {
				changed = append(changed, c.Setting)
			}
			want := append([]string{key}, tc.also...)
			slices.Sort(changed)
			slices.Sort(want)
			if !slices.Equal(changed, want) || len(result.NeedsRestart) > 0 {
				t.Errorf("changed %v, %d need a restart", changed, len(result.NeedsRestart))
			}
			if !strings.Contains(r.log.String(), `msg="setting changed" setting=`+key) {
				t.Errorf("no log line:\n%s", r.log)
			}
			tc.proof(t, r)
		})
	}
	for key := range cases {
		if !slices.Contains(keys, key) {
			t.Errorf("%s is not reloadable", key)
		}
	}
}

// post makes a request to the metrics port.
func (r *reloadable) request(method, path string, header ...string) (status int, body string) {
	r.tb.Helper()
	req, _ := http.NewRequest(method, "http://"+r.MetricsAddr().String()+path, nil)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.tb.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text)
}

func TestReloadByHTTP(t *testing.T) {
	r := startReloadable(t, nil)
	r.next.MaxPending, r.next.Loops = 7, 3
	status, body := r.request("POST", "/reload?dryRun=1")
	want := `{"dryRun":true,"changed":[{"setting":"maxPending","from":1024,"to":7}],"needsRestart":[{"setting":"loops","from":2,"to":3}],"warnings":["a warning"]}` + "\n"
	if status != 200 || body != want {
		t.Errorf("%d %s, want %s", status, body, want)
	}
	pendingIs := func(want int) {
		t.Helper()
		r.onLoops(func(l *owners.Loop) {
			if l.Env.Limits.Requests != want {
				t.Errorf("maxPending is %d, want %d", l.Env.Limits.Requests, want)
			}
		})
	}
	pendingIs(1024)
	if status, body := r.request("POST", "/reload", "Sec-Fetch-Site", "cross-site"); status != 403 {
		t.Errorf("from a page: %d %s", status, body)
	}
	if status, _ := r.request("GET", "/reload"); status != 404 && status != 405 {
		t.Errorf("GET: %d", status)
	}
	if status, body := r.request("POST", "/reload?dryRun=perhaps"); status != 400 {
		t.Errorf("%d %s", status, body)
	}
	pendingIs(1024)
	if status, body = r.request("POST", "/reload"); status != 200 || body != strings.Replace(want, `"dryRun":true`, `"dryRun":false`, 1) {
		t.Errorf("%d %s", status, body)
	}
	pendingIs(7)
	if !strings.Contains(r.log.String(), `level=WARN msg="setting needs a restart" setting=loops from=2 to=3`) {
		t.Errorf("no log line:\n%s", r.log)
	}
	// What was applied is no change any more; what needs a restart still does.
	if _, body := r.request("POST", "/reload"); body != `{"dryRun":false,"changed":[],"needsRestart":[{"setting":"loops","from":2,"to":3}],"warnings":["a warning"]}`+"\n" {
		t.Error(body)
	}
}

// After a failed reload nothing has changed, whatever else was fine in it.
func TestReloadIsAllOrNothing(t *testing.T) {
	for name, tt := range map[string]struct {
		bad  func(*reloadable)
		want string
	}{
		"unreadable":         {func(r *reloadable) { r.err = errors.New("config file f.json:3:1: port: must be a whole number") }, "f.json:3:1: port"},
		"out of bounds":      {func(r *reloadable) { r.next.MaxMessage = 1 }, "maxMessage: 1 is out of bounds"},
		"a missing key file": {func(r *reloadable) { r.next.TLSKey = "/nowhere" }, "tlsKey: open /nowhere: no such file"},
		"half of a change":   {func(r *reloadable) { r.next.TLS, r.next.TLSCert, r.next.TLSKey = false, "", "" }, "cannot be applied without those that need a restart: tls needs tlsCert"},
	} {
		t.Run(name, func(t *testing.T) {
			r := startReloadable(t, useCertificate(1))
			r.next.MaxPending, r.next.Debug, r.next.AllowOrigin = 7, true, "https://a.example"
			tt.bad(r)
			if status, body := r.request("POST", "/reload"); status != 400 || !strings.Contains(body, tt.want) {
				t.Errorf("%d %s, want 400 with %q", status, body, tt.want)
			}
			if !strings.Contains(r.log.String(), `level=ERROR msg="reload failed; the settings in use stay"`) {
				t.Errorf("no log line:\n%s", r.log)
			}
			r.onLoops(func(l *owners.Loop) {
				if l.Env.Limits.Requests != 1024 {
					t.Errorf("maxPending is %d", l.Env.Limits.Requests)
				}
			})
			levelIs(slog.LevelInfo)(t, r)
			serialIs(1)(t, r)
			if r.rest.Origins().Lines() != "" {
				t.Error("the origins have changed")
			}
		})
	}
}

// A reload while another is in progress, or while the gateway does not run, is a conflict.
func TestReloadConflicts(t *testing.T) {
	r := startReloadable(t, nil)
	reading, goOn := make(chan struct{}), make(chan struct{})
	var blocks atomic.Bool
	blocked := reload.New(reload.Options{
		Read: func() (Config, []string, error) {
			if blocks.Load() {
				close(reading)
				<-goOn
			}
			return r.config, nil, nil
		},
		Running: r.config, Prepare: r.prepare, Log: r.log.Logger(),
	})
	if _, err := blocked.Reload(context.Background()); !errors.Is(err, reload.ErrNotRunning) {
		t.Errorf("before the start: %v", err)
	}
	blocked.Open()
	blocks.Store(true)
	first := make(chan error, 1)
	go func() {
		_, err := blocked.Reload(context.Background())
		first <- err
	}()
	testkit.Await(t, reading, "the first reload")
	blocks.Store(false)
	w := newRecorder()
	blocked.ServeHTTP(w, newPost("/reload"))
	var failure struct{ Error string }
	if err := json.Unmarshal(w.body.Bytes(), &failure); err != nil || w.status != http.StatusConflict || failure.Error != reload.ErrBusy.Error() {
		t.Errorf("%d %s", w.status, &w.body)
	}
	second := make(chan error, 1)
	go func() {
		_, err := blocked.Reload(context.Background()) // as SIGHUP does: it waits
		second <- err
	}()
	close(goOn)
	if err := testkit.Await(t, first, "the first reload"); err != nil {
		t.Error(err)
	}
	if err := testkit.Await(t, second, "the second reload"); err != nil {
		t.Error(err)
	}
	blocked.Close()
	w = newRecorder()
	if blocked.ServeHTTP(w, newPost("/reload")); w.status != http.StatusConflict {
		t.Errorf("after the end: %d %s", w.status, &w.body)
	}
}

// recorder is an http.ResponseWriter.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func newRecorder() *recorder                        { return &recorder{header: http.Header{}} }
func (r *recorder) Header() http.Header             { return r.header }
func (r *recorder) WriteHeader(status int)          { r.status = status }
func (r *recorder) Write(b []byte) (n int, e error) { return r.body.Write(b) }

func newPost(path string) *http.Request {
	req, err := http.NewRequest(http.MethodPost, "http://x"+path, nil)
	if err != nil {
		panic(err)
	}
	return req
}
