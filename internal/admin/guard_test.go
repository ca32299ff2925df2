package admin_test

import (
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"

	"sluice/gateway"
)

const token = "0123456789abcdef0123"

// A request comes through only with what the settings demand, and from no foreign page.
func TestGuard(t *testing.T) {
	open := newWorld(t, nil)
	locked := newWorld(t, func(c *gateway.Config) { c.AdminTokenFile = file(t, " "+token+"\n") })
	for _, tt := range []struct {
		name         string
		w            *world
		method, path string
		head         map[string]string
		status       int
	}{
		{"plain", open, "GET", "/api/overview", nil, 200},
		{"localhost", open, "GET", "/api/overview", map[string]string{"Host": "localhost:1"}, 200},
		{"IPv6", open, "GET", "/api/overview", map[string]string{"Host": "[::1]:1"}, 200},
		{"rebinding", open, "GET", "/api/overview", map[string]string{"Host": "evil.example.com"}, 421},
		{"rebinding, POST", open, "POST", "/api/reset", map[string]string{"Host": "evil.example.com", "Sluice-Admin": "1"}, 421},
		{"POST without the header", open, "POST", "/api/reset", nil, 403},
		{"POST with the header", open, "POST", "/api/reset", map[string]string{"Sluice-Admin": "1"}, 415},
		{"POST of another origin", open, "POST", "/api/reset", map[string]string{"Sluice-Admin": "1", "Origin": "http://example.com"}, 403},
		{"POST of no origin", open, "POST", "/api/reset", map[string]string{"Sluice-Admin": "1", "Origin": "null"}, 403},
		{"GET of another site", open, "GET", "/debug/pprof/profile", map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		{"GET of another port", open, "GET", "/api/overview", map[string]string{"Sec-Fetch-Site": "same-site"}, 403},
		{"GET of its own page", open, "GET", "/api/overview", map[string]string{"Sec-Fetch-Site": "same-origin"}, 200},

		{"no token", locked, "GET", "/api/overview", nil, 401},
		{"no token, profiles", locked, "GET", "/debug/pprof/heap", nil, 401},
		{"no token, metrics", locked, "GET", "/metrics", nil, 401},
		{"no token, elsewhere", locked, "GET", "/index.html", nil, 401},
		{"metrics", open, "GET", "/metrics", nil, 200},
		{"no token, POST", locked, "POST", "/api/reset", map[string]string{"Sluice-Admin": "1"}, 401},
		{"empty token", locked, "GET", "/api/overview", map[string]string{"Authorization": "Bearer "}, 401},
		{"wrong token", locked, "GET", "/api/overview", map[string]string{"Authorization": "Bearer " + token + "4"}, 401},
		{"token as a password", locked, "GET", "/api/overview", map[string]string{"Authorization": "Basic " + token}, 401},
		{"token", locked, "GET", "/api/overview", map[string]string{"Authorization": "Bearer " + token}, 200},
		{"token, any name", locked, "GET", "/api/overview", map[string]string{"Authorization": "bearer " + token, "Host": "gateway.example.com"}, 200},
		{"token, POST", locked, "POST", "/api/reset", map[string]string{"Authorization": "Bearer " + token}, 415},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.w.head = http.Header{}
			for k, v := range tt.head {
				tt.w.head.Set(k, v)
			}
			if status, text := tt.w.ask(tt.method, tt.path, "", nil); status != tt.status {
				t.Errorf("%d %s, want %d", status, text, tt.status)
			}
		})
	}
	if locked.log.Count(token) > 0 {
		t.Error("the token is logged")
	}
}

// The page's files need no token, name no other place, and may load nothing from elsewhere.
func TestPage(t *testing.T) {
	w := newWorld(t, func(c *gateway.Config) { c.AdminTokenFile = file(t, token) })
	for path, kind := range map[string]string{"/": "text/html", "/app.js": "text/javascript", "/style.css": "text/css", "/icon.svg": "image/svg+xml"} {
		resp, err := w.http.Get(w.base + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		policy := resp.Header.Get("Content-Security-Policy")
		if err != nil || resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), kind) ||
			!strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: %v %v %v", path, err, resp.StatusCode, resp.Header)
		}
		text := strings.ReplaceAll(string(body), "http://www.w3.org/2000/svg", "")
		if strings.Contains(text, "http:") || strings.Contains(text, "https:") || strings.Contains(text, "innerHTML") {
			t.Errorf("%s names another place, or writes markup", path)
		}
	}
}

// A start with an admin port that strangers could use, or with unusable files, is refused.
func TestRefusedStart(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*gateway.Config)
		want   string
	}{
		{"open to all", func(c *gateway.Config) { c.AdminAddr = "0.0.0.0" }, "set adminTokenFile, or"},
		{"open to a network", func(c *gateway.Config) { c.AdminAddr = "192.0.2.1" }, "can be reached from other machines"},
		{"no such file", func(c *gateway.Config) { c.AdminTokenFile = "/nowhere/token" }, "adminTokenFile: open /nowhere/token"},
		{"short token", func(c *gateway.Config) { c.AdminTokenFile = file(t, "sesame") }, "at least 16 characters"},
		{"two words", func(c *gateway.Config) { c.AdminTokenFile = file(t, "0123456789 0123456789") }, "one token"},
		{"half of TLS", func(c *gateway.Config) { c.AdminTLSCert = "a" }, "adminTlsCert and adminTlsKey belong together"},
		{"no certificate", func(c *gateway.Config) { c.AdminTLSCert, c.AdminTLSKey = file(t, "x"), file(t, "y") }, "adminTlsCert"},
		{"authorities without TLS", func(c *gateway.Config) { c.AdminClientCA = "a" }, "adminClientCa needs TLS"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := gateway.Config{AdminPort: gateway.FreePort}
			tt.change(&c)
			_, err := gateway.New(c)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if err != nil && (strings.Contains(err.Error(), "sesame") || strings.Contains(err.Error(), "0123456789")) {
				t.Errorf("the token is shown: %v", err)
			}
		})
	}
}

// With adminClientCa, only clients with a certificate of these authorities are served.
func TestMutualTLS(t *testing.T) {
	server, clientSide, stranger := issue(t), issue(t), issue(t)
	w := newWorld(t, func(c *gateway.Config) {
		c.AdminTLSCert, c.AdminTLSKey, c.AdminClientCA = server.cert, server.key, clientSide.cert
	})
	w.base = strings.Replace(w.base, "http:", "https:", 1)
	for _, tt := range []struct {
		name string
		with []tls.Certificate
		ok   bool
	}{{"none", nil, false}, {"a stranger's", []tls.Certificate{stranger.pair}, false}, {"the right one", []tls.Certificate{clientSide.pair}, true}} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: server.pool, Certificates: tt.with}}
		resp, err := (&http.Client{Transport: transport}).Get(w.base + "/api/overview")
		if (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Errorf("%s: %d", tt.name, resp.StatusCode)
			}
		}
		transport.CloseIdleConnections()
	}
}
