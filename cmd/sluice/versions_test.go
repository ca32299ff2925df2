//go:build linux

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sluice/internal/testkit"
)

// The program at the gateway's path is replaced by a newer one, and that by the older one again:
// each takes over from the other.
func TestUpgradeAndDowngrade(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "sluice")
	install := func(version string) {
		t.Helper()
		path := filepath.Join(dir, version)
		if _, err := os.Stat(path); err != nil {
			if out, err := exec.Command("go", "build", "-ldflags", "-w -X main.stamped="+version, "-o", path, ".").CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		}
		if err := os.Link(path, program+".new"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(program+".new", program); err != nil { // as package managers do
			t.Fatal(err)
		}
	}
	w := newWorld(t, "loops: 2\n")
	w.begin()
	w.fill(12)
	asked := w.asked()
	install("v1.0.0")
	exited := w.l.exited
	w.l.start(exec.Command(program, "takeover", "-c", w.l.file))
	testkit.Await(t, exited, "the end of the first process")
	for round, version := range []string{"v1.1.0", "v1.0.0"} {
		install(version)
		if out := w.upgrade(round + 2); !strings.Contains(out, "version "+version+" has started") || !strings.Contains(out, "12 WebSockets have moved") {
			t.Error(out)
		}
		for _, f := range w.clients {
			w.fold(f)
		}
	}
	w.rest()
	if n := w.asked(); n != asked {
		t.Errorf("%d access requests after upgrades", n-asked)
	}
}
