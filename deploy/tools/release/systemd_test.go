package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"sluice/deploy/tools/testkit"
)

// dropIn returns the drop-in for a unit that docs/upgrade.md shows.
func dropIn(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("../../../docs/upgrade.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, begins := strings.Cut(string(page), "```ini ")
	_, text, _ = strings.Cut(text, "\n")
	text, _, ends := strings.Cut(text, "```")
	if !begins || !ends || !strings.Contains(text, "ExecReload=") {
		t.Fatalf("docs/upgrade.md has no drop-in: %q", text)
	}
	return text
}

// The units of the package run under a systemd that is booted for it, on a copy of this machine
// that is thrown away: start, reload, crash, watchdog, wrong settings, socket activation, removal.
func TestSystemd(t *testing.T) {
	t.Parallel()
	if !testkit.Installed(t, "dpkg", "systemctl", "ip", "pivot_root", "unshare") || !namespaces(t) {
		testkit.Note(t, "the units were not started")
		return
	}
	program, err := os.Executable() // which is also the client
	if err != nil {
		t.Fatal(err)
	}
	before, dir := machine(t), t.TempDir()
	for from, to := range map[string]string{
		file(t, made(t), "*_"+runtime.GOARCH+".deb"): "sluice.deb", later(t): "later.deb", "testdata/systemd.sh": "systemd.sh", program: "client",
	} {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, to), text, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "drop-in.conf"), []byte(dropIn(t)), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("unshare", "--mount", "--cgroup", "--pid", "--fork", "--net", "--uts", "--ipc", "--kill-child",
		"sh", "testdata/boot.sh", dir, "sluice.deb", "systemd.sh").CombinedOutput()
	log, _ := os.ReadFile(filepath.Join(dir, "output"))
	if err != nil {
		t.Fatalf("%v:\n%s\n%s", err, out, log)
	}
	if after := machine(t); after != before {
		t.Errorf("the machine is not as it was:\n%s\n\n%s", before, after)
	}
	testkit.Note(t, "the units ran under systemd")
}
