//go:build linux

package main

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sluice/internal/testkit"
)

// withOtherTLS builds a program to which crypto/tls is unknown: a field that it needs has another
// name, as a later version of Go could have it.
func withOtherTLS(t *testing.T) string {
	t.Helper()
	reach, err := filepath.Abs("../../netpoll/tlskeys/reach.go")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(reach)
	if err != nil {
		t.Fatal(err)
	}
	const field = `"trafficSecret"`
	if strings.Count(string(source), field) != 1 {
		t.Fatalf("%s is not once in %s", field, reach)
	}
	dir := t.TempDir()
	other, overlay, program := filepath.Join(dir, "reach.go"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "sluice")
	if err := os.WriteFile(other, []byte(strings.Replace(string(source), field, `"renamedSecret"`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{"Replace": map[string]string{reach: other}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(overlay, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "build", "-overlay", overlay, "-ldflags", "-w", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// Where the keys of TLS cannot be taken out of crypto/tls, or put in, the check of an upgrade, the
// upgrade and the log say so, and clients with TLS leave in the drain, whichever of the two
// processes it is. Without TLS clients move as ever.
func TestUpgradeWithOtherTLS(t *testing.T) {
	program := withOtherTLS(t)
	const reason = `crypto/tls has other fields: ["renamedSecret"]`
	t.Run("TLS", func(t *testing.T) {
		w, _ := secureWorld(t, tls.VersionTLS13)
		connect := func() (*follower, *httpClient) {
			rest := w.l.clientOver(func() (net.Conn, error) { return tls.Dial("tcp", w.l.addr, w.secure) })
			if status, err := rest.get("/healthz"); status != 200 {
				t.Fatal(status, err)
			}
			return w.client("test.m0"), rest
		}
		leave := func(f *follower, rest *httpClient) {
			t.Helper()
			w.leaves(f)
			if b, err := rest.r.ReadByte(); err != io.EOF {
				t.Errorf("a connection at rest is not closed: %d, %v", b, err)
			}
		}
		comes, goes := "clients with TLS do not move, and are closed in the drain: "+reason, ", and are closed in its drain: "+reason
		f, rest := connect()
		exited := w.l.exited
		w.l.start(exec.Command(program, "takeover", "-c", w.l.file))
		testkit.Await(t, exited, "the end of the first process")
		leave(f, rest)
		says := func(text string, goesToo bool) {
			t.Helper()
			text = strings.ReplaceAll(text, `\"`, `"`)
			if !strings.Contains(text, comes) || strings.Contains(text, goes) != goesToo {
				t.Errorf("it does not say why clients with TLS leave:\n%s", text)
			}
		}
		says(w.l.log(), false)

		before := len(w.l.log())
		f, rest = connect()
		code, stdout, stderr := w.l.upgrade("--check")
		if code != 0 {
			t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
		}
		says(stdout, true)
		says(w.l.log()[before:], true)
		before = len(w.l.log())
		f.ask(t, "call.test.m0.set", "")
		w.until(f, "nothing has changed for it", func() bool { return f.view.Pending() == 0 })
		if status, err := rest.get("/healthz"); status != 200 {
			t.Error(status, err)
		}
		stdout = w.upgrade(2)
		says(stdout, true)
		says(w.l.log()[before:], true)
		leave(f, rest)
		connect()
	})
	t.Run("plaintext", func(t *testing.T) {
		w := newWorld(t, "loops: 2\n")
		w.begin()
		w.fill(3)
		exited := w.l.exited
		w.l.start(exec.Command(program, "takeover", "-c", w.l.file))
		testkit.Await(t, exited, "the end of the first process")
		if out := w.upgrade(2); !strings.Contains(out, "3 WebSockets have moved") || strings.Contains(out, "TLS") {
			t.Error(out)
		}
		w.rest()
		w.mu.Lock()
		for rid := range w.ticks {
			w.mutate(rid)
		}
		w.mu.Unlock()
		w.same()
	})
}
