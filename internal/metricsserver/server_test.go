package metricsserver

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"sluice/internal/httpserver"
	"sluice/internal/metrics"
)

// start returns a running server with one counter.
func start(t *testing.T, profiles bool) *httpserver.Server {
	t.Helper()
	r := metrics.New("1.2.3", "9.8.7")
	if err := r.Counter("things_total", "Things counted.", nil, func() uint64 { return 7 }); err != nil {
		t.Fatal(err)
	}
	health := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "healthy at "+r.URL.Path) })
	s := New(Options{Addr: "127.0.0.1:0", Registry: r, Profiles: profiles, Health: health, NotFound: http.NotFoundHandler(), Log: slog.New(slog.DiscardHandler)})
	if s.Addr() != nil {
		t.Error("an address before the start")
	}
	if err := s.Start(func(err error) { t.Error(err) }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop() })
	return s
}

// ask sends a request and returns the response with its body.
func ask(t *testing.T, s *httpserver.Server, method, path, accept string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest(method, "http://"+s.Addr().String()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", accept)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestFormats(t *testing.T) {
	s := start(t, false)
	for _, tt := range []struct{ method, accept, contentType, want string }{
		{"GET", "", "text/plain", "# TYPE things_total counter\nthings_total 7\n"},
		{"HEAD", "", "text/plain", ""},
		{"POST", "", "text/plain", "# TYPE things_total counter\nthings_total 7\n"},
		{"GET", "application/openmetrics-text; version=1.0.0", "application/openmetrics-text", "# TYPE things counter\nthings_total 7.0\n"},
		{"POST", "application/openmetrics-text; version=1.0.0", "application/openmetrics-text", `resgate_info{protocol="9.8.7",version="1.2.3"} 1.0`},
	} {
		resp, body := ask(t, s, tt.method, Path, tt.accept)
		if got := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || !strings.HasPrefix(got, tt.contentType) || !strings.Contains(body, tt.want) {
			t.Errorf("%s with Accept %q: %d %s\n%s", tt.method, tt.accept, resp.StatusCode, got, body)
		}
		if open := strings.HasSuffix(body, "# EOF\n"); open != (tt.accept != "") {
			t.Errorf("%s with Accept %q: the end of OpenMetrics: %v", tt.method, tt.accept, open)
		}
	}
	if resp, _ := ask(t, s, "GET", "/", ""); resp.StatusCode != 404 {
		t.Errorf("/: %d", resp.StatusCode)
	}
}

func TestHealthOfTheMetricsPort(t *testing.T) {
	s := start(t, false)
	for _, path := range []string{"/healthz", "/readyz", "/livez"} {
		if resp, body := ask(t, s, "GET", path, ""); resp.StatusCode != 200 || body != "healthy at "+path {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
}

func TestProfilesIfEnabled(t *testing.T) {
	for profiles, want := range map[bool]int{true: 200, false: 404} {
		if resp, _ := ask(t, start(t, profiles), "GET", "/debug/pprof/cmdline", ""); resp.StatusCode != want {
			t.Errorf("profiles %v: %d, want %d", profiles, resp.StatusCode, want)
		}
	}
}
