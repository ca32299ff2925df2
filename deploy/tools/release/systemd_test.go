package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"sluice/deploy/tools/testkit"
)

// The units of the package run under a systemd that is booted for it, on a copy of this machine
// that is thrown away: start, reload, crash, watchdog, wrong settings, socket activation, removal.
func TestSystemd(t *testing.T) {
	t.Parallel()
	if !testkit.Installed(t, "dpkg", "systemctl", "ip", "pivot_root", "unshare") || !namespaces(t) {
		testkit.Note(t, "the units were not started")
		return
	}
	before, dir := machine(t), t.TempDir()
	for from, to := range map[string]string{file(t, made(t), "*_"+runtime.GOARCH+".deb"): "sluice.deb", "testdata/systemd.sh": "systemd.sh"} {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, to), text, 0o644); err != nil {
			t.Fatal(err)
		}
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
