//go:build linux

package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sluice/internal/testkit"
)

// What systemctl reload runs: an upgrade where a new process can take over, else SIGHUP to the main
// process. It fails, and changes nothing, where the settings are wrong.
func TestSluiceReload(t *testing.T) {
	l := startLineage(t, "")
	good, err := os.ReadFile(l.file)
	if err != nil {
		t.Fatal(err)
	}
	main := l.first.Process.Pid
	reload := func(environ ...string) (code int, stdout, stderr string) {
		t.Helper()
		var out, errs testkit.Log
		p := process{stdout: &out, stderr: &errs, environ: environ}
		code = p.run([]string{"reload", "-c", l.file})
		return code, out.String(), errs.String()
	}
	hangups := 0
	for name, tt := range map[string]struct {
		settings string
		pid      string // MAINPID; empty: the gateway's
		code     int
		want     string
	}{
		"wrong settings":           {string(good) + "maxMessage: large\n", "", 2, "maxMessage: must be a whole number"},
		"a new process cannot":     {string(good) + "tls: true\ntlsCert: /nowhere\ntlsKey: /nowhere\n", "", 1, "tlsCert"},
		"no socket":                {strings.Replace(string(good), "upgradeSocket: ", "#", 1), "", 0, "upgradeSocket is not set: process "},
		"nobody at the socket":     {strings.Replace(string(good), l.socket, l.socket+"2", 1), "", 0, "no gateway takes orders at " + l.socket + "2: process "},
		"an embedded server":       {strings.Replace(string(good), "natsUrl: ", "embeddedNats: true\n#", 1), "", 0, "the embedded NATS server cannot be handed over: process "},
		"no socket and no process": {strings.Replace(string(good), "upgradeSocket: ", "#", 1), "none", 1, "nothing has changed: upgradeSocket is not set, and there is no process"},
		"all processes":            {strings.Replace(string(good), "upgradeSocket: ", "#", 1), "-1", 1, "MAINPID is -1"},
	} {
		l.write(tt.settings)
		pid := tt.pid
		if pid == "" {
			pid = fmt.Sprint(main)
		}
		code, stdout, stderr := reload("MAINPID=" + pid)
		if code != tt.code || !strings.Contains(stdout+stderr, tt.want) {
			t.Errorf("%s: exit code %d, want %d\n%s%s", name, code, tt.code, stdout, stderr)
		}
		if code == 0 {
			hangups++
			l.until("msg=reloaded", hangups)
		}
	}
	if n := len(l.pids()); n > 0 || strings.Contains(l.log(), "reload failed") {
		t.Errorf("%d processes have taken over", n)
	}
	l.write(string(good))
	if code, stdout, stderr := reload("MAINPID=" + fmt.Sprint(main)); code != 0 || !strings.Contains(stdout, "serves new clients") {
		t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
	}
	testkit.Await(t, l.exited, "the end of the first process")
	next := l.pids()[0]
	// The new process is in charge, and one that cannot take over from it changes nothing.
	l.write(strings.Replace(string(good), "natsUrl: nats://127.0.0.1:", "natsTimeout: 200ms\nnatsUrl: nats://127.0.0.2:", 1))
	if code, _, stderr := reload(); code != 1 || !strings.Contains(stderr, "nothing has changed") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if status, err := l.healthy(); status != http.StatusOK {
		t.Errorf("status %d: %v", status, err)
	}
	if err := syscall.Kill(next, 0); err != nil {
		t.Error(err)
	}
}

// With an embedded NATS server there are no upgrades: sluice upgrade and its check say why, and
// nothing changes.
func TestNoUpgradeWithAnEmbeddedServer(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "socket")
	p := listening(t, "--embedded-nats", "--embedded-nats-listen", "127.0.0.1:0", "--upgrade-socket", socket, "--drain-timeout", "0")
	closed := p.webSocket()
	for _, args := range [][]string{{"upgrade"}, {"upgrade", "--check"}} {
		var out, errs testkit.Log
		asker := process{stdout: &out, stderr: &errs}
		code := asker.run(append(args, "--upgrade-socket", socket))
		if want := "nothing has changed: the embedded NATS server lives in this process"; code != 1 || !strings.Contains(errs.String(), want) {
			t.Errorf("%q: exit code %d\n%s%s", args, code, &out, &errs)
		}
	}
	p.after(`msg="check of an upgrade failed; this process goes on" error="the embedded NATS server lives in this`)
	select {
	case code := <-closed:
		t.Errorf("the client was closed with %d", code)
	default:
	}
	p.signal(syscall.SIGTERM)
	p.wantExit(0)
}
