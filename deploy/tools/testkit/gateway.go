package testkit

import (
	"bufio"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"syscall"
	"testing"
	"time"
)

var listens = regexp.MustCompile(`msg="?(listening|metrics server listening)"? .*?(?:addr|url)=\S*?(127\.0\.0\.1:\d+)`)

// Gateway runs the program that the environment variable SLUICE names, with a NATS server of its
// own, until the test ends. It returns where that serves clients and metrics, once it is ready.
func Gateway(t *testing.T, args ...string) (clients, metrics string) {
	t.Helper()
	program := os.Getenv("SLUICE")
	if program == "" {
		program = "../../../bin/sluice"
	}
	cmd := exec.Command(program, append([]string{"--addr", "127.0.0.1", "--port", "-1", "--metricsport", "-1", "--drain-timeout", "0",
		"--embedded-nats", "--embedded-nats-listen", "127.0.0.1:0"}, args...)...)
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() })
	read := make(chan struct{})
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-read // Wait closes the pipe
		_ = cmd.Wait()
		late.Stop()
	})
	lines := bufio.NewScanner(log)
	all := ""
	for (clients == "" || metrics == "") && lines.Scan() {
		all += lines.Text() + "\n"
		if m := listens.FindStringSubmatch(lines.Text()); m != nil && m[1] == "listening" {
			clients = m[2]
		} else if m != nil {
			metrics = m[2]
		}
	}
	go func() {
		defer close(read)
		for lines.Scan() {
		}
	}()
	if clients == "" || metrics == "" {
		t.Fatalf("the gateway does not listen:\n%s", all)
	}
	deadline, tick := time.Now().Add(2*time.Minute), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for {
		resp, err := http.Get("http://" + metrics + "/readyz")
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return clients, metrics
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("the gateway is not ready: %v", err)
		}
		<-tick.C
	}
}
