package main

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"sluice/internal/natstest"
)

// fetch gets a URL and returns its status and body.
func fetch(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestGatewayRunsAndStops(t *testing.T) {
	file := filepath.Join(t.TempDir(), "new.json")
	p := start(t, "-i", "127.0.0.1", "-p", "-1", "--embedded-nats", "--embedded-nats-listen", "127.0.0.1:0",
		"--drain-timeout", "0", "-c", file)
	url := "http://" + p.after(t, &p.stderr, " addr=")
	if status, body := fetch(t, url+"/healthz"); status != 200 || !strings.Contains(body, `"ok"`) {
		t.Errorf("health: %d %s", status, body)
	}
	if status, body := fetch(t, url+"/nope"); status != 404 || !strings.Contains(body, "system.notFound") {
		t.Errorf("unknown path: %d %s", status, body)
	}
	if log := p.stderr.String(); !strings.Contains(log, file) {
		t.Errorf("the log does not name %s:\n%s", file, log)
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
	p.signals <- os.Interrupt
	if code := <-p.exit; code != 0 {
		t.Errorf("exit code %d:\n%s", code, &p.stderr)
	}
}

func TestPortInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	_, port, err := net.SplitHostPort(taken.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, "-i", "127.0.0.1", "-p", port, "--embedded-nats", "--embedded-nats-listen", "127.0.0.1:0")
	if code := <-p.exit; code != 1 || !strings.Contains(p.stderr.String(), port) {
		t.Errorf("exit code %d:\n%s", code, &p.stderr)
	}
}

func TestNATSNotReachable(t *testing.T) {
	addr := strings.TrimPrefix(natstest.New(t).URL(), "nats://") // a port that is bound, but not listened on
	p := start(t, "-p", "-1", "--nats", "nats://user:secret@"+addr, "--nats-timeout", "200ms")
	code := <-p.exit
	log := p.stderr.String()
	if code != 1 || !strings.Contains(log, addr) {
		t.Errorf("exit code %d:\n%s", code, log)
	}
	if strings.Contains(log, "secret") {
		t.Errorf("the password is in the log:\n%s", log)
	}
}

func TestSignalWhileWaitingForNATS(t *testing.T) {
	p := start(t, "-p", "-1", "--nats", "nats://127.0.0.1:1", "--nats-timeout", "1h")
	p.after(t, &p.stderr, "NATS")
	p.signals <- os.Interrupt
	if code := <-p.exit; code != 0 {
		t.Errorf("exit code %d:\n%s", code, &p.stderr)
	}
}

func TestDemo(t *testing.T) {
	p := start(t, "demo", "--addr", "127.0.0.1", "--port", "-1", "--embedded-nats-listen", "127.0.0.1:0")
	url := p.after(t, &p.stdout, "Sluice demo: ")
	if status, body := fetch(t, url); status != 200 || !strings.Contains(body, "<html") {
		t.Errorf("page: %d %s", status, body)
	}
	if status, body := fetch(t, url+"nope"); status != 404 || !strings.Contains(body, "system.notFound") {
		t.Errorf("unknown path: %d %s", status, body)
	}
	if at := p.after(t, &p.stdout, "Services can join at "); !strings.HasPrefix(at, "nats://127.0.0.1:") {
		t.Errorf("NATS at %s", at)
	}
	p.signals <- os.Interrupt
	if code := <-p.exit; code != 0 {
		t.Errorf("exit code %d:\n%s", code, &p.stderr)
	}
}

// The settings file that one demo has written does for the next one.
func TestDemoWithWrittenFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "demo.json")
	for _, run := range []string{"writes it", "reads it"} {
		p := start(t, "demo", "-c", file, "--addr", "127.0.0.1", "--port", "-1", "--embedded-nats-listen", "127.0.0.1:0", "--nats-timeout", "100ms")
		p.after(t, &p.stdout, "Services can join at ")
		if own := strings.Contains(p.stderr.String(), "embedded"); !own {
			t.Errorf("the demo that %s has no NATS server of its own:\n%s", run, &p.stderr)
		}
		p.signals <- os.Interrupt
		if code := <-p.exit; code != 0 {
			t.Errorf("the demo that %s: exit code %d:\n%s", run, code, &p.stderr)
		}
	}
}

// The demo joins its own NATS server although services have to authenticate themselves there.
func TestDemoWithAuthentication(t *testing.T) {
	for name, settings := range map[string]string{"users": `{"embeddedNats":true,"embeddedNatsUsers":"service:sesame"}`, "token": `{"embeddedNats":true,"embeddedNatsToken":"sesame"}`} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "demo.json")
			if err := os.WriteFile(file, []byte(settings), 0o600); err != nil {
				t.Fatal(err)
			}
			p := start(t, "demo", "-c", file, "--addr", "127.0.0.1", "--port", "-1", "--embedded-nats-listen", "127.0.0.1:0")
			url := p.after(t, &p.stdout, "Sluice demo: ")
			at := p.after(t, &p.stdout, "Services can join at ")
			if status, body := fetch(t, url+"api/demo/books"); status != 200 || !strings.Contains(body, "/api/demo/book/1") {
				t.Errorf("%d %s", status, body)
			}
			if _, err := nats.Connect(at); !errors.Is(err, nats.ErrAuthorization) {
				t.Errorf("without authentication: %v", err)
			}
			p.signals <- os.Interrupt
			if code := <-p.exit; code != 0 {
				t.Errorf("exit code %d:\n%s", code, &p.stderr)
			}
		})
	}
}

// A NATS server on the usual port does not keep the demo from running.
func TestDemoBesideAnotherNATSServer(t *testing.T) {
	// If the listener cannot open, somebody else holds the port, which is as good.
	if l, err := net.Listen("tcp", "127.0.0.1:4222"); err == nil {
		defer func() { _ = l.Close() }()
	}
	p := start(t, "demo", "--addr", "127.0.0.1", "--port", "-1")
	if at := p.after(t, &p.stdout, "Services can join at "); at == "nats://127.0.0.1:4222" {
		t.Error("the demo joined the other server")
	}
	p.signals <- os.Interrupt
	if code := <-p.exit; code != 0 {
		t.Errorf("exit code %d:\n%s", code, &p.stderr)
	}
}
