package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/internal/systemd"
	"sluice/internal/testkit"
)

// manager is a service manager's end of the notifications.
type manager struct {
	t    *testing.T
	name string // for NOTIFY_SOCKET
	conn *net.UnixConn
}

func newManager(t *testing.T, name string) *manager {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &manager{t, name, conn}
}

// until returns the first notification that contains text.
func (m *manager) until(text string) string {
	m.t.Helper()
	_ = m.conn.SetReadDeadline(time.Now().Add(testkit.Patience))
	b := make([]byte, 4096)
	for {
		n, err := m.conn.Read(b)
		if err != nil {
			m.t.Fatalf("%q is not notified: %v", text, err)
		}
		if strings.Contains(string(b[:n]), text) {
			return string(b[:n])
		}
	}
}

// The service manager is notified of the start, of reloads and of the stop; the watchdog is
// answered.
func TestNotifications(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{filepath.Join(dir, "notify"), "@" + dir} {
		m := newManager(t, name)
		p := spawn(t, []string{"NOTIFY_SOCKET=" + name, "WATCHDOG_USEC=60000000"},
			"-i", "127.0.0.1", "-p", "-1", "--embedded-nats", "--embedded-nats-listen", "127.0.0.1:0", "--drain-timeout", "0", "--close-timeout", "1s")
		m.until("STATUS=waiting for NATS")
		if text := m.until("READY=1"); !strings.Contains(text, "STATUS=clients are served") {
			t.Error(text)
		}
		m.until("WATCHDOG=1")
		p.signal(syscall.SIGHUP)
		if text := m.until("RELOADING=1"); !strings.Contains(text, "MONOTONIC_USEC=") || strings.Contains(text, "MONOTONIC_USEC=0") {
			t.Error(text)
		}
		if text := m.until("READY=1"); !strings.Contains(text, "STATUS=reloaded") {
			t.Error(text)
		}
		p.signal(syscall.SIGTERM)
		if text := m.until("STOPPING=1"); !strings.Contains(text, "EXTEND_TIMEOUT_USEC=6000000") {
			t.Error(text)
		}
		p.wantExit(0)
	}
}

// A service that hangs does not answer the watchdog.
func TestWatchdogOfAServiceThatHangs(t *testing.T) {
	m := newManager(t, filepath.Join(t.TempDir(), "notify"))
	s := newScripted()
	notifier, err := systemd.NewNotifier([]string{"NOTIFY_SOCKET=" + m.name, "WATCHDOG_USEC=3000"}, 1)
	if err != nil || notifier.Watchdog() != 3*time.Millisecond {
		t.Fatal(err)
	}
	p := process{manager: notifier}
	hang := make(chan struct{})
	log := new(testkit.Log)
	s.alive = func(ctx context.Context) error {
		select {
		case <-hang:
			<-ctx.Done()
			return ctx.Err()
		default:
			return nil
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.watch(ctx, s, log.Logger())
	}()
	m.until("WATCHDOG=1")
	close(hang)
	testkit.Until(t, "the log says that it hangs", func() bool { return log.Count("hangs") > 0 })
	cancel()
	testkit.Await(t, ended, "the end")
}

// What the environment gets wrong is a warning, not the end.
func TestNotificationsThatCannotBeSent(t *testing.T) {
	for _, name := range []string{"/nowhere/notify", "vsock:1:2"} {
		p := spawn(t, []string{"NOTIFY_SOCKET=" + name}, "-i", "127.0.0.1", "-p", "-1", "--embedded-nats", "--embedded-nats-listen", "127.0.0.1:0", "--drain-timeout", "0")
		p.after("the service manager cannot be notified")
		p.after(" msg=listening addr=")
		p.signal(syscall.SIGTERM)
		p.wantExit(0)
	}
}

// activated runs the program with sockets that a service manager has opened. It must be a child of
// a shell, as only that knows the process's number in time.
func activated(t *testing.T, names string, files []*os.File, args ...string) *child {
	t.Helper()
	c := &child{t: t, exited: make(chan struct{})}
	c.cmd = exec.Command("/bin/sh", append([]string{"-c", `LISTEN_PID=$$ exec "$0" "$@"`, os.Args[0]}, args...)...)
	c.cmd.Env = []string{asProgram + "=1", "PATH=" + os.Getenv("PATH"), fmt.Sprintf("LISTEN_FDS=%d", len(files)), "LISTEN_FDNAMES=" + names}
	c.cmd.ExtraFiles = files
	c.start()
	return c
}

// listenAs returns a listener and its descriptor, as a service manager has them.
func listenAs(t *testing.T) (addr string, file *os.File) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }() // the descriptor stays
	if file, err = l.(*net.TCPListener).File(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return l.Addr().String(), file
}

// Clients are served on passed sockets, and those that connect while no process runs by the next.
func TestSocketActivation(t *testing.T) {
	addr, clients := listenAs(t)
	other, more := listenAs(t)
	metrics, metricsFile := listenAs(t)
	args := []string{"--embedded-nats", "--embedded-nats-listen", "127.0.0.1:0", "--drain-timeout", "0", "--loops", "2"}
	run := func() *child {
		p := activated(t, "sluice:metrics:more", []*os.File{clients, metricsFile, more}, args...)
		p.addr = addr
		if got := p.after(" msg=listening addr="); got != addr {
			t.Errorf("the log has the address %s, want %s", got, addr)
		}
		return p
	}
	p := run()
	var closed []chan uint16
	for range 20 {
		closed = append(closed, p.webSocket())
	}
	p.addr = other
	closed = append(closed, p.webSocket())
	if text := body(t, "http://"+metrics+"/metrics"); !strings.Contains(text, "sluice_") {
		t.Errorf("%.200s", text)
	}
	if text := body(t, "http://"+addr+"/healthz"); text == "" {
		t.Error("no health")
	}
	p.signal(syscall.SIGTERM)
	p.wantExit(0)
	for i, c := range closed {
		if code := <-c; code != 1001 {
			t.Errorf("WebSocket %d was closed with %d, want 1001", i, code)
		}
	}
	p.addr = addr
	_, r := p.dial("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") // no process runs
	next := run()
	if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != 200 {
		t.Errorf("a client that waited: %v %v", resp, err)
	}
	next.signal(syscall.SIGTERM)
	next.wantExit(0)
}

func TestSocketsThatCannotBeUsed(t *testing.T) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	unixSocket, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unixSocket.Close() }()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = null.Close() }()
	_, tcp := listenAs(t)
	for want, tt := range map[string]struct {
		names string
		files []*os.File
	}{
		`descriptor 3 ("a") is not a listening TCP socket: use ListenStream=`: {"a:b", []*os.File{unixSocket}},
		`descriptor 4 ("b") is not a listening TCP socket`:                    {"a:b", []*os.File{tcp, null}},
		"two sockets are named metrics":                                       {"metrics:metrics", []*os.File{tcp, tcp}},
	} {
		p := activated(t, tt.names, tt.files)
		p.wantExit(2)
		if text := p.output.String(); !strings.Contains(text, want) {
			t.Errorf("%s, want %s", text, want)
		}
	}
}
