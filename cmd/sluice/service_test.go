package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"sluice/internal/natstest"
	"sluice/internal/testkit"
)

// A new service in Go builds without a download, serves HTTP clients through a gateway, and ends by
// a signal.
func TestNewServiceRuns(t *testing.T) {
	t.Chdir(t.TempDir())
	code, stdout, stderr := command(t, nil, "service", "new", "my-books")
	if code != 0 || stderr != "" || !strings.Contains(stdout, "cd my-books && go run .") {
		t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
	}
	build := exec.Command("go", "build", "-o", "service", ".")
	build.Dir = "my-books"
	build.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	ns := natstest.Start(t)
	gateway := listening(t, "--nats", ns.URL())
	service := &child{t: t, cmd: exec.Command("my-books/service"), exited: make(chan struct{})}
	service.cmd.Env = append(os.Environ(), "NATS_URL="+ns.URL())
	service.start()
	testkit.Until(t, "the service serves", func() bool {
		if service.ended() {
			t.Fatalf("the service ended:\n%s", &service.output)
		}
		return strings.Contains(service.output.String(), "my-books is serving")
	})

	url := "http://" + gateway.addr + "/api/my-books/counter"
	if got := counterAt(t, url); got != 0 {
		t.Errorf("the count is %d", got)
	}
	response, err := http.Post(url+"/increment", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusNoContent {
		t.Errorf("the call's status is %d", response.StatusCode)
	}
	if got := counterAt(t, url); got != 1 {
		t.Errorf("after the call the count is %d", got)
	}
	service.signal(syscall.SIGTERM)
	service.wantExit(0)
}

// A new service in Python serves HTTP clients through a gateway without a package, comes back when
// NATS has been away, and ends by a signal.
func TestNewPythonServiceRuns(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Log("left out: there is no python3 (make deps installs it)")
		return
	}
	t.Chdir(t.TempDir())
	if code, stdout, stderr := command(t, nil, "service", "new", "my-books", "-lang", "python"); code != 0 || stderr != "" {
		t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
	}
	ns := natstest.Start(t)
	gateway := listening(t, "--nats", ns.URL())
	service := &child{t: t, cmd: exec.Command(python, "my-books/service.py"), exited: make(chan struct{})}
	service.cmd.Env = append(os.Environ(), "NATS_URL="+ns.URL(), "PYTHONDONTWRITEBYTECODE=1")
	service.start()
	serving := func(times int) {
		testkit.Until(t, "the service serves", func() bool {
			if service.ended() {
				t.Fatalf("the service ended:\n%s", &service.output)
			}
			return service.output.Count("my-books is serving") == times
		})
	}
	serving(1)
	url := "http://" + gateway.addr + "/api/my-books/counter"
	if got := counterAt(t, url); got != 0 {
		t.Errorf("the count is %d", got)
	}
	ns.Restart()
	serving(2)
	nc := ns.Client()
	reply, err := nc.Request("call.my-books.counter.increment", []byte("{}"), testkit.Patience)
	if err != nil || string(reply.Data) != `{"result": null}` {
		t.Errorf("a call: %v %v", reply, err)
	}
	for subject, want := range map[string]string{
		"get.my-books.counter":       `{"result": {"model": {"count": 1}}}`,
		"get.my-books.none":          `{"error": {"code": "system.notFound", "message": "Not found"}}`,
		"call.my-books.counter.none": `{"error": {"code": "system.methodNotFound", "message": "Method not found"}}`,
	} {
		if reply, err := nc.Request(subject, nil, testkit.Patience); err != nil || string(reply.Data) != want {
			t.Errorf("%s: %v %v", subject, reply, err)
		}
	}
	// What is no JSON object is an error for its sender, and the service goes on.
	if reply, err := nc.Request("get.my-books.counter", []byte("[1"), testkit.Patience); err != nil || !strings.Contains(string(reply.Data), "system.internalError") {
		t.Errorf("garbage: %v %v", reply, err)
	}
	service.signal(syscall.SIGTERM)
	service.wantExit(0)
}

// counterAt gets the counter's model.
func counterAt(t *testing.T, url string) int {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	var model struct{ Count *int }
	if err := json.Unmarshal(body, &model); err != nil || model.Count == nil {
		t.Fatalf("%s: %s", response.Status, body)
	}
	return *model.Count
}

func TestServiceCommand(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, tt := range []struct {
		args           []string
		code           int
		stdout, stderr string
	}{
		{[]string{"new", "a"}, 0, "cd a && go run .", ""},
		{[]string{"new", "b", "-lang", "node"}, 0, "cd b && npm install && npm start", ""},
		{[]string{"new", "--lang=node", "c"}, 0, "cd c && npm install", ""},
		{[]string{"new", "p", "-lang", "python"}, 0, "cd p && python3 service.py", ""},
		{[]string{"-h"}, 0, "Usage: sluice service new NAME", ""},
		{[]string{"new", "-h"}, 0, "Usage: sluice service new NAME", ""},
		{nil, 2, "", "say what to do"},
		{[]string{"old", "a"}, 2, "", `there is no command "old"`},
		{[]string{"new"}, 2, "", "name the service"},
		{[]string{"new", "a"}, 2, "", "a exists, and nothing is overwritten"},
		{[]string{"new", "A"}, 2, "", `"A" cannot name a service`},
		{[]string{"new", "../d"}, 2, "", "cannot name a service"},
		{[]string{"new", "d", "e"}, 2, "", `"e" is one name too many`},
		{[]string{"new", "d", "-lang", "perl"}, 2, "", `"perl": use go, node or python`},
		{[]string{"new", "d", "-port", "1"}, 2, "", "-port"},
	} {
		code, stdout, stderr := command(t, nil, append([]string{"service"}, tt.args...)...)
		if code != tt.code || !strings.Contains(stdout, tt.stdout) || !strings.Contains(stderr, tt.stderr) || (stderr == "") != (tt.stderr == "") {
			t.Errorf("%q: exit code %d\n%s%s", tt.args, code, stdout, stderr)
		}
	}
	if _, err := os.Stat("d"); err == nil {
		t.Error("a wrong command left a folder")
	}
}
