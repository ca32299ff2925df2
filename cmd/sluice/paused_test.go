package main

import (
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/internal/natstest"
	"sluice/internal/restest"
)

// argsVariable has the test binary be the program: its arguments, separated by line feeds.
const argsVariable = "RUN_AS_SLUICE"

func TestMain(m *testing.M) {
	if args, ok := os.LookupEnv(argsVariable); ok {
		os.Args = append(os.Args[:1], strings.Split(args, "\n")...)
		main()
	}
	if os.Getenv(runAsProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// child runs the program as a process of its own until the test ends, and returns the address that
// it serves.
func child(t *testing.T, args ...string) (p *os.Process, addr string) {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), argsVariable+"="+strings.Join(args, "\n"))
	errput := newOutput()
	out, err := c.StderrPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() { defer close(read); _, _ = io.Copy(errput, out) }()
	t.Cleanup(func() {
		_ = c.Process.Kill()
		<-read
		_ = c.Wait()
	})
	return c.Process, (&program{stdout: newOutput(), stderr: errput}).after(t, errput, "msg=listening addr=")
}

// A process that does not run for longer than all its timeouts, as in a virtual machine that is
// paused, has lost nothing: services have answered meanwhile, and clients are there.
func TestPausedProcess(t *testing.T) {
	ns := natstest.Start(t)
	nc := ns.Client()
	asked := make(chan *nats.Msg, 64)
	if _, err := nc.Subscribe("access.>", func(m *nats.Msg) { _ = m.Respond([]byte(`{"result":{"get":true,"call":"*"}}`)) }); err != nil {
		t.Fatal(err)
	}
	if _, err := nc.Subscribe("call.>", func(m *nats.Msg) { asked <- m }); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	const timeout = 300 * time.Millisecond
	p, addr := child(t, "--nats", ns.URL(), "--addr", "127.0.0.1", "--port", "0", "--reqtimeout", "300")
	news := make(chan struct{}, 1)
	client, err := restest.Dial("a", "ws://"+addr+"/", func() {
		select {
		case news <- struct{}{}:
		default:
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Cut()
	var calls []*nats.Msg
	for i := range 5 {
		if err := client.Send(`{"id":` + string(rune('1'+i)) + `,"method":"call.test.it"}`); err != nil {
			t.Fatal(err)
		}
		calls = append(calls, <-asked)
	}
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for _, m := range calls {
		_ = m.Respond([]byte(`{"result":"ok"}`))
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	<-time.After(3 * timeout) // the process is stopped: only real time gets it past its deadlines
	if err := p.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for got := 0; got < len(calls); {
		m, ok := client.Next()
		if !ok {
			<-news
			continue
		}
		if !strings.Contains(m, `"result":"ok"`) {
			t.Fatalf("got %s", m)
		}
		got++
	}
}
