package traefik

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/traefik/paerser/file"
	"github.com/traefik/traefik/v3/pkg/config/dynamic"
)

// decode reads a file as Traefik's file provider does: unknown fields and wrong types are errors.
func decode(t *testing.T, text string) (dynamic.Configuration, error) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "traefik.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var c dynamic.Configuration
	err := file.Decode(name, &c)
	return c, err
}

// Everything that the file names is in it, and each part does what the gateways need.
func TestConfiguration(t *testing.T) {
	text, err := os.ReadFile("../../proxies/traefik.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, err := decode(t, string(text))
	if err != nil {
		t.Fatal(err)
	}
	router := c.HTTP.Routers["sluice"]
	service := c.HTTP.Services[router.Service]
	if router.TLS == nil || service == nil {
		t.Fatalf("the router is %+v", router)
	}
	for _, name := range router.Middlewares {
		m := c.HTTP.Middlewares[name]
		if value, ok := m.Headers.CustomRequestHeaders["Forwarded"]; !ok || value != "" {
			t.Errorf("the middleware %s does not remove Forwarded: %+v", name, m)
		}
	}
	if len(router.Middlewares) != 1 {
		t.Errorf("the middlewares are %q", router.Middlewares)
	}
	b := service.LoadBalancer
	var urls []string
	for _, s := range b.Servers {
		urls = append(urls, s.URL)
	}
	if !slices.Equal(urls, []string{"http://10.0.0.11:8080", "http://10.0.0.12:8080"}) {
		t.Errorf("the gateways are %q", urls)
	}
	if b.HealthCheck == nil || b.HealthCheck.Path != "/readyz" || b.ResponseForwarding.FlushInterval >= 0 || !*b.PassHostHeader {
		t.Errorf("the load balancer is %+v", b)
	}
	if c.HTTP.ServersTransports[b.ServersTransport] == nil {
		t.Errorf("there is no transport %q", b.ServersTransport)
	}
	for old, by := range map[string]string{"healthCheck:": "healthchek:", "interval: 1s": "interval: a second", "passHostHeader: true": "passHostHeader: perhaps"} {
		if !strings.Contains(string(text), old) {
			t.Errorf("the file has no %q", old)
		}
		if _, err := decode(t, strings.Replace(string(text), old, by, 1)); err == nil {
			t.Errorf("%q is accepted", by)
		}
	}
}
