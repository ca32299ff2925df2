//go:build linux

package main

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"sluice/loadtest/plan"
	"sluice/loadtest/run"
)

// "make compare PLAN=peers" builds the programs, which are no part of what every change must pass.
var withPeers = flag.Bool("peers", false, "start the targets of bench/peers.yaml, whose programs are in bin and bin/peers, with a few clients")

// peersPlan returns the plan of the comparison with Mercure and Socket.IO. The working directory is
// the top of the tree.
func peersPlan(t *testing.T) plan.Plan {
	t.Helper()
	p, err := plan.Read("bench/peers.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The plan says which versions its modules have, and names files that are there.
func TestPeersVersions(t *testing.T) {
	t.Chdir("../..")
	var lock struct {
		Packages map[string]struct{ Version string }
	}
	if err := json.Unmarshal([]byte(readFile(t, "bench/peers/socketio/package-lock.json")), &lock); err != nil {
		t.Fatal(err)
	}
	hub := regexp.MustCompile(`github.com/dunglas/mercure/caddy (v\S+)`).FindStringSubmatch(readFile(t, "bench/peers/mercure/go.mod"))
	if hub == nil {
		t.Fatal("no version of the hub's module")
	}
	versions := map[string]string{"mercure": hub[1], "socketio": "v" + lock.Packages["node_modules/socket.io"].Version}
	for _, target := range peersPlan(t).Targets {
		if want, ok := versions[target.Name]; ok && target.Version != want {
			t.Errorf("%s: %s in the plan, %s in its module", target.Name, target.Version, want)
		}
		delete(versions, target.Name)
		for _, file := range regexp.MustCompile(`bench/\S+`).FindAllString(target.Start, -1) {
			if _, err := os.Stat(filepath.FromSlash(file)); err != nil {
				t.Errorf("%s: %v", target.Name, err)
			}
		}
	}
	if len(versions) > 0 {
		t.Errorf("no targets: %v", versions)
	}
}

// Each target starts, and its clients get what is published. The test takes no part without -peers.
func TestPeersEndToEnd(t *testing.T) {
	if !*withPeers {
		t.Log("left out: go test ./cmd/sluice-load -run Peers -peers takes the programs that make compare PLAN=peers builds")
		return
	}
	t.Chdir("../..")
	p := peersPlan(t)
	p.Rounds = 1
	p.Targets = slices.DeleteFunc(p.Targets, func(t plan.Target) bool { return t.Protocol == "floor" }) // {self} is a test
	for i := range p.Scenarios {
		s := &p.Scenarios[i]
		s.N, s.Topics, s.PerClient = min(s.N, 40), min(s.Topics, 8), min(s.PerClient, 2)
		s.Duration, s.Settle, s.Deliveries, s.Trials = 300*time.Millisecond, time.Millisecond, 400, 2
	}
	rep, err := run.Run(t.Context(), p, run.Options{Say: func(line string) { t.Log(line) }})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range rep.Cells {
		if c.Error != "" || c.Lost != 0 || c.Failed != 0 || c.Closed != 0 || c.Live != 40 || c.Units == 0 {
			t.Errorf("%s: %s: %+v", c.Target, c.Scenario, c)
		}
	}
}
