package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sluice/internal/testkit"
)

// SIGHUP reloads the settings: what can change does, a bad file changes nothing, and clients stay.
func TestHangupReloads(t *testing.T) {
	file := filepath.Join(t.TempDir(), "s.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("maxPending: 7\n")
	p := listening(t, "-c", file, "--embedded-nats", "--embedded-nats-listen", "127.0.0.1:0", "--drain-timeout", "0", "--held-events", "5")
	closed := p.webSocket()
	step := func(text, want string) {
		t.Helper()
		p.output.Take()
		write(text)
		p.signal(syscall.SIGHUP)
		testkit.Until(t, want+" is logged", func() bool { return p.ended() || strings.Contains(p.output.String(), want) })
	}
	step("maxPending: 8\nport: 1\nwsPath: /ws\nheldEvents: 6\n", "msg=reloaded changed=1 needsRestart=1")
	for _, want := range []string{`msg="setting changed" setting=maxPending from=7 to=8`, `msg="setting needs a restart" setting=wsPath`} {
		if !strings.Contains(p.output.String(), want) {
			t.Errorf("%s is not logged:\n%s", want, &p.output)
		}
	}
	step("maxPending: 9\nmaxMessage: large\n", "msg=\"reload failed; the settings in use stay\" error=\"config file "+file+":2:13: maxMessage: must be a whole number\"")
	step("maxPending: 9\n", "setting=maxPending from=8 to=9")
	step("maxPending: 9\ndebug: true\n", "setting=debug from=false to=true")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	p.output.Take()
	p.signal(syscall.SIGHUP)
	p.after("reload failed")
	if _, err := os.Stat(file); err == nil {
		t.Error("a reload has written the file")
	}
	select {
	case code := <-closed:
		t.Errorf("the client was closed with %d", code)
	default:
	}
	p.signal(syscall.SIGTERM)
	p.wantExit(0)
	if code := <-closed; code != 1001 {
		t.Errorf("the client was closed with %d, want 1001", code)
	}
}
