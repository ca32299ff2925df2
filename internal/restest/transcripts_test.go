package restest

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"sluice/gateway"
	"sluice/internal/testkit"
)

var (
	rewrite  = flag.Bool("rewrite", false, "replace client expectations that differ in testdata")
	watchdog = flag.Duration("watchdog", testkit.Patience, "how long to wait for a message before it counts as missing")
)

// layouts are the numbers of owners under which every transcript must hold.
var layouts = []struct {
	name          string
	loops, shards int
	flush         string
	wildcards     []string
}{
	{"one", 1, 1, "write", nil}, // one loop and one shard: everything in one order
	{"default", 0, 0, "auto", nil},
	// More owners than cores: more ways to interleave. Events come by wildcards, and some twice.
	{"many", 4, 8, "auto", []string{"test.>", ">", "test.*"}},
}

// TestTranscripts replays every transcript against the gateway, over a real NATS server and real
// sockets.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts", err)
	}
	// One server at a time per transcript: what one leaves in NATS ends with its
	// connections.
	servers := make(chan *server.Server, runtime.GOMAXPROCS(0))
	for range cap(servers) {
		servers <- startNATS(t)
	}
	for _, layout := range layouts {
		if *rewrite && layout.name != "one" {
			continue
		}
		t.Run(layout.name, func(t *testing.T) {
			for _, file := range files {
				t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
					t.Parallel()
					ns := <-servers
					defer func() { servers <- ns }()
					script, err := Load(file)
					if err != nil {
						t.Fatal(err)
					}
					text, err := os.ReadFile(file)
					if err != nil {
						t.Fatal(err)
					}
					env := Env{NATS: ns.ClientURL(), Subscribed: subscribed(ns), Watchdog: *watchdog, Rewrite: *rewrite,
						Start: func(st Start) (Gateway, error) {
							return startGateway(st, func(c *gateway.Config) {
								c.Loops, c.Shards, c.Flush = layout.loops, layout.shards, layout.flush
								if !ownSubscriptions.Match(text) {
									c.NATSWildcards = layout.wildcards
								}
							})
						}}
					if err := env.Run(script); err != nil {
						t.Error(err)
					}
				})
			}
		})
	}
}

// ownSubscriptions matches a transcript that is about the subscriptions of resources.
var ownSubscriptions = regexp.MustCompile(`(?m)^\s*(un)?subscribed |^set natsWildcards`)

var ruled = regexp.MustCompile(`^# RES\.md [1-5]`)

// TestTranscriptsNameTheirRule: each file begins with the rule it shows, and no section is without
// one.
func TestTranscriptsNameTheirRule(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !ruled.Match(b) {
			t.Errorf("%s does not begin with the rule it shows", file)
		}
		section, _, _ := strings.Cut(filepath.Base(file), "-")
		count[section]++
	}
	for _, section := range []string{"1", "2.1", "2.2", "2.3", "2.4", "2.5", "3.1", "3.2", "3.3", "4", "5"} {
		if count[section] == 0 {
			t.Errorf("no transcript for RES.md %s", section)
		}
	}
	t.Logf("%d transcripts: %v", len(files), count)
}
