//go:build linux

package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"sluice/internal/restest"
	"sluice/internal/testkit"
)

// A process that was not started by the gateway takes over from it: clients notice nothing. It can
// be upgraded itself.
func TestTakeOver(t *testing.T) {
	w := newWorld(t, "loops: 2\n")
	w.begin()
	w.fill(12)
	asked := w.asked()
	first, exited := w.l.first, w.l.exited
	w.l.run("takeover", "-c", w.l.file)
	testkit.Await(t, exited, "the end of the first process")
	if code := first.ProcessState.ExitCode(); code != 0 {
		t.Errorf("the first process ends with exit code %d", code)
	}
	w.l.until(`msg="upgrade done"`, 1)
	if !strings.Contains(w.l.log(), " connections=12 ") {
		t.Error("not all WebSockets have moved")
	}
	for _, f := range w.clients {
		w.fold(f)
	}
	if out := w.upgrade(2); !strings.Contains(out, "12 WebSockets have moved") {
		t.Error(out)
	}
	testkit.Await(t, w.l.exited, "the end of the second process")
	w.rest()
	if n := w.asked(); n != asked {
		t.Errorf("%d access requests after it", n-asked)
	}
}

// A process that cannot start changes nothing; one that finds no gateway starts.
func TestTakeOverFails(t *testing.T) {
	l := startLineage(t, "")
	good := "natsUrl: " + l.nats
	take := func(settings string) (code int, stderr string) {
		l.write(settings)
		var out, errs testkit.Log
		p := process{stdout: &out, stderr: &errs}
		return p.run([]string{"takeover", "-c", l.file}), errs.String()
	}
	rest := "\naddr: 127.0.0.1\nport: -1\nmetricsPort: -1\nadminPort: -1\nupgradeSocket: " + l.socket + "\n"
	for _, tt := range []struct {
		settings, want string
		code           int
	}{
		{good + "\naddr: 127.0.0.1\n", "upgradeSocket is not set", 2},
		{good + rest + "maxMessage: 1\n", "maxMessage", 2},
		{"natsTimeout: 200ms\nnatsUrl: nats://127.0.0.2:1" + rest, "cannot start", 1},
	} {
		if code, stderr := take(tt.settings); code != tt.code || !strings.Contains(stderr, tt.want) {
			t.Errorf("%s: exit code %d\n%s", tt.settings, code, stderr)
		}
		if status, err := l.healthy(); status != http.StatusOK {
			t.Errorf("status %d: %v", status, err)
		}
	}
	l.until(`msg="upgrade failed; this process goes on"`, 1)
	if err := l.first.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	testkit.Await(t, l.exited, "the end of the first process")
	l.write(good + rest)
	l.run("takeover", "-c", l.file)
	if !strings.Contains(l.log(), "no gateway is there to take over from") {
		t.Error("it does not say that there was none")
	}
	if status, err := l.healthy(); status != http.StatusOK {
		t.Errorf("status %d: %v", status, err)
	}
}

// A process that may have fewer descriptors takes what it has room for. The other clients stay in
// the old one, and leave in its drain.
func TestTakeOverAtTheDescriptorLimit(t *testing.T) {
	l := startLineage(t, "")
	var clients []*restest.Client
	for i := range 200 {
		c, err := restest.Dial(fmt.Sprint("client ", i), "ws://"+l.addr+"/", func() {})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Cut)
		clients = append(clients, c)
	}
	exited := l.exited
	l.start(exec.Command("sh", "-c", `ulimit -n 128; exec "$0" "$@"`, os.Args[0], "takeover", "-c", l.file))
	testkit.Await(t, exited, "the end of the first process")
	open := 0
	for _, c := range clients {
		_ = c.Send(`{"id":1,"method":"version"}`) // fails if it was closed
		testkit.Until(t, c.Name+" is answered or closed", func() bool {
			if m, ok := c.Next(); ok {
				open++
				return strings.Contains(m, `"id":1`)
			}
			code, closed := c.Closed()
			if closed && code != 1001 {
				t.Errorf("%s is closed with %d", c.Name, code)
			}
			return closed
		})
	}
	if open < 10 || open > 120 {
		t.Errorf("%d of %d clients have moved", open, len(clients))
	}
	if !strings.Contains(l.log(), "limit of open files") {
		t.Error("the log does not say why the others have not")
	}
}
