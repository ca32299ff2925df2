//go:build linux

package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sluice/internal/natstest"
	"sluice/internal/testkit"
)

// The first process of a container lives on when a gateway ends that another one has taken over
// from, takes it for its child, passes signals on to it, and ends with its exit code.
func TestInit(t *testing.T) {
	dir := t.TempDir()
	l := &lineage{t: t, exited: make(chan struct{}), path: filepath.Join(dir, "log"), socket: filepath.Join(dir, "socket"), file: filepath.Join(dir, "sluice.yaml")}
	l.write("natsUrl: " + natstest.Start(t).URL() + "\naddr: 127.0.0.1\nport: -1\nupgradeSocket: " + l.socket + "\ndrainTimeout: 100ms\ncloseTimeout: 1s\n")
	l.run("init", "-c", l.file)
	if code, stdout, stderr := l.upgrade(); code != exitOK {
		t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
	}
	testkit.Until(t, "the first gateway has ended, and another one has its parent", func() bool {
		pids := l.pids()
		return len(pids) == 1 && parent(t, pids[0]) == l.first.Process.Pid
	})
	if status, err := l.healthy(); err != nil || status != http.StatusOK {
		t.Errorf("%d %v", status, err)
	}
	if err := l.first.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-l.exited
	if code := l.first.ProcessState.ExitCode(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if _, err := l.healthy(); err == nil {
		t.Error("the gateway still serves")
	}
}

// parent returns the parent of a process; 0: there is no such process.
func parent(t *testing.T, pid int) (parent int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	if _, rest, ok := strings.Cut(string(status), "\nPPid:"); ok {
		_, _ = fmt.Sscan(rest, &parent)
	}
	return parent
}

// What ends the program ends the first process, with the same exit code.
func TestInitExitCode(t *testing.T) {
	for want, args := range map[int][]string{exitUsage: {"init", "--no-such-setting"}, exitFailure: {"init", "--nats", "nats://127.0.0.1:1", "--nats-timeout", "100ms", "-p", "-1"}} {
		cmd := exec.Command(os.Args[0], args...)
		cmd.Env = []string{asProgram + "=1"}
		out, _ := cmd.CombinedOutput() // its exit code is what counts
		if got := cmd.ProcessState.ExitCode(); got != want {
			t.Errorf("%v: exit code %d, want %d\n%s", args, got, want, out)
		}
	}
}
