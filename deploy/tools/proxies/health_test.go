package proxies

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"sluice/deploy/tools/testkit"
)

// healthPath finds the path of a health check in the configurations of proxies.
var healthPath = regexp.MustCompile(`(?m)(?:health_uri |meth GET uri |HealthCheckPath: |http_health_check: \{path: |^ *path: )(/[^ }\n]*)`)

// The health checks of all configurations are answered on the port for clients, and with hideHealth
// on the metrics port only.
func TestHealthChecks(t *testing.T) {
	paths := map[string]bool{}
	for _, file := range []string{"haproxy.cfg", "haproxy-tcp.cfg", "Caddyfile", "envoy.yaml", "traefik.yaml", "aws.yaml"} {
		text, err := os.ReadFile(filepath.Join("../../proxies", file))
		if err != nil {
			t.Fatal(err)
		}
		found := healthPath.FindAllStringSubmatch(string(text), -1)
		if len(found) == 0 {
			t.Errorf("%s has no health check", file)
		}
		for _, m := range found {
			paths[m[1]] = true
		}
	}
	status := func(addr, path string) int {
		resp, err := http.Get("http://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	clients, metrics := testkit.Gateway(t)
	hidden, hiddenMetrics := testkit.Gateway(t, "--hide-health")
	for path := range paths {
		for _, addr := range []string{clients, metrics, hiddenMetrics} {
			if got := status(addr, path); got != http.StatusOK {
				t.Errorf("%s: %d", path, got)
			}
		}
		if got := status(hidden, path); got != http.StatusNotFound {
			t.Errorf("%s on the port for clients with hideHealth: %d", path, got)
		}
	}
}
