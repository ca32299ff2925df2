package archtest

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// unwanted are packages that must not be linked into the gateway, directly or through
// another package. An entry that ends in / stands for everything below it.
var unwanted = []struct{ path, why string }{
	{"gopkg.in/yaml.v3", "no longer maintained: go.yaml.in/yaml/v3 is its successor"},
	{"github.com/HdrHistogram/", "the load harness's latencies; the gateway's histograms are those of internal/metrics"},
	{module + "/loadtest", "the harness measures the gateway from outside, as another process"},
	{module + "/loadtest/", "the harness measures the gateway from outside, as another process"},
	{module + "/bench/", "servers to compare with"},
	{module + "/internal/archtest", "a test kit"},
	{module + "/internal/natstest", "a test kit"},
	{module + "/internal/restest", "a test kit"},
	{module + "/internal/resmodel", "models of the gateway's peers, to compare the gateway with"},
	{module + "/internal/e2e/", "a test kit"},
	{"testing", "registers flags, and belongs to test binaries"},
	{"testing/", "belongs to test binaries"},
	{"github.com/google/go-cmp/", "compares values by reflection, for tests"},
	{"github.com/cockroachdb/datadriven", "reads transcripts, for tests"},
	{"github.com/santhosh-tekuri/jsonschema/", "validates the settings' schema, for tests"},
	{"golang.org/x/tools/", "tools of make lint"},
	{"honnef.co/", "tools of make lint"},
}

// unwantedIn returns the unwanted packages among deps, each with the reason.
func unwantedIn(deps []string) (found []string) {
	for _, dep := range deps {
		for _, u := range unwanted {
			if dep == u.path || strings.HasSuffix(u.path, "/") && strings.HasPrefix(dep, u.path) {
				found = append(found, dep+": "+u.why)
				break
			}
		}
	}
	return found
}

// The gateway's binary contains nothing of the load harness, of tests or of tools. A
// dependency of a dependency counts, which the table of imports does not see.
func TestGatewayDependencies(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "./cmd/sluice")
	cmd.Dir = top(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	deps := strings.Fields(string(out))
	if !slices.Contains(deps, module+"/gateway") {
		t.Fatalf("go list names %d packages, and the gateway is not among them", len(deps))
	}
	for _, found := range unwantedIn(deps) {
		t.Errorf("cmd/sluice is built with %s; go mod why -m, or go list -deps, shows through what", found)
	}
}

func TestUnwantedDependenciesAreFound(t *testing.T) {
	for dep, want := range map[string]bool{
		"gopkg.in/yaml.v3":                        true,
		"github.com/HdrHistogram/hdrhistogram-go": true,
		module + "/loadtest":                      true,
		module + "/loadtest/plan":                 true,
		module + "/internal/restest":              true,
		"testing":                                 true,
		"testing/fstest":                          true,
		module + "/loadtester":                    false,
		module + "/internal/res":                  false,
		"gopkg.in/natefinch/lumberjack.v2":        false,
	} {
		if got := len(unwantedIn([]string{dep})) > 0; got != want {
			t.Errorf("%s: unwanted is %v, want %v", dep, got, want)
		}
	}
}
