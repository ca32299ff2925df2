package collect

import (
	"flag"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	dto "github.com/prometheus/client_model/go"

	"sluice/cache"
	"sluice/fanout"
	"sluice/internal/embednats"
	"sluice/internal/httpapi"
	"sluice/internal/httpedge"
	"sluice/internal/jwtauth"
	"sluice/internal/limit"
	"sluice/internal/memory"
	"sluice/internal/metrics"
	"sluice/internal/natsbus"
	"sluice/internal/owner"
	"sluice/internal/presence"
	"sluice/internal/ratelimit"
	"sluice/internal/session"
	"sluice/internal/tracing"
	"sluice/netpoll"
)

var writeDocs = flag.Bool("write-docs", false, "write the metrics into docs/observability.md; see \"make docs\"")

const docs = "../../docs/observability.md"

// everything returns all sources, as of a gateway that has all parts.
func everything() *Sources {
	services := limit.NewTable(limit.Options{Max: 100, Min: 1, Parts: 1})
	library := services.Get("library.book.1")
	library.TryAcquire(0)
	library.Replied(1) // services that were never heard of have no series
	return &Sources{
		Net: new(netpoll.Metrics), Fanout: new(fanout.Metrics), Session: new(session.Metrics), Cache: new(cache.Metrics),
		NATS: new(natsbus.Metrics), Leaf: new(embednats.Metrics), Limits: new(ratelimit.Metrics), HTTP: new(httpedge.Metrics), API: new(httpapi.Metrics),
		Compressions: new(metrics.Counter), CutHTTP: new(metrics.Counter), InvalidAnswers: new(atomic.Uint64),
		Faults:   owner.NewFaults(owner.NewManualClock(), slog.New(slog.DiscardHandler)),
		Draining: func() bool { return true },
		Services: services,
		Memory:   memory.NewWatch(memory.Options{}),
		Owners:   testOwners(),
		Status:   testStatus(),
		Tokens:   new(jwtauth.Metrics),
		Traces:   new(tracing.Metrics),
		Presence: new(presence.Metrics),
	}
}

// families returns the gateway's own metrics, by name.
func families(t *testing.T) map[string]*dto.MetricFamily {
	t.Helper()
	r := metrics.New("1.0.0", "1.2.3")
	if err := Register(r, everything()); err != nil {
		t.Fatal(err)
	}
	all, err := r.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	own := make(map[string]*dto.MetricFamily)
	for _, f := range all {
		if strings.HasPrefix(f.GetName(), "sluice_") || strings.HasPrefix(f.GetName(), "resgate_") {
			own[f.GetName()] = f
		}
	}
	return own
}

// table returns the metrics as a table in Markdown.
func table(all map[string]*dto.MetricFamily) string {
	var lines []string
	for name, f := range all {
		var labels []string
		for _, l := range f.Metric[0].Label {
			labels = append(labels, l.GetName())
		}
		text := strings.ReplaceAll(f.GetHelp(), "|", `\|`)
		lines = append(lines, fmt.Sprintf("| `%s` | %s | %s | %s |\n", name, strings.ToLower(f.GetType().String()), strings.Join(labels, ", "), text))
	}
	slices.Sort(lines)
	return "| metric | type | labels | meaning |\n|---|---|---|---|\n" + strings.Join(lines, "")
}

// The documentation has every metric with its meaning: "make docs" writes it.
func TestDocsHaveEveryMetric(t *testing.T) {
	const begin, end = "<!-- begin of the metrics, written by make docs -->\n", "<!-- end of the metrics -->\n"
	text, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(text), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no marks of the metrics", docs)
	}
	want := before + begin + table(families(t)) + end + after
	if want == string(text) {
		return
	}
	if !*writeDocs {
		t.Fatalf("the metrics in %s are not those of the code: run make docs", docs)
	}
	if err := os.WriteFile(docs, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// The dashboard, the alerts and the documentation name no metric that does not exist.
func TestNamesOfMetricsExist(t *testing.T) {
	all := families(t)
	known := func(name string) bool {
		if f := all[name]; f != nil {
			return f.GetType() != dto.MetricType_HISTOGRAM
		}
		for _, suffix := range []string{"_bucket", "_count", "_sum"} {
			base, ok := strings.CutSuffix(name, suffix)
			if f := all[base]; ok && f != nil && f.GetType() == dto.MetricType_HISTOGRAM {
				return true
			}
		}
		return false
	}
	names := regexp.MustCompile(`\b(?:sluice|resgate)_[a-z0-9_]+`)
	for _, file := range []string{"../../deploy/grafana/sluice.json", "../../deploy/prometheus/sluice.rules.yml", "../../deploy/prometheus/sluice.rules.test.yml"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found := names.FindAllString(string(text), -1)
		if len(found) < 5 {
			t.Errorf("%s names %d metrics", file, len(found))
		}
		for _, name := range found {
			if !known(name) {
				t.Errorf("%s: there is no metric %s", file, name)
			}
		}
	}
	for _, file := range []string{docs, "../../docs/performance.md", "../../docs/reliability.md", "../../README.md"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names.FindAllString(string(text), -1) {
			if !known(name) && all[name] == nil && !strings.HasSuffix(name, "_") {
				t.Errorf("%s: there is no metric %s", file, name)
			}
		}
	}
}
