package main

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience bounds waits that end early when all is well.
const patience = 30 * time.Second

// realProcess is the program as a process of its own.
type realProcess struct {
	t      *testing.T
	cmd    *exec.Cmd
	stderr *output
	exited chan struct{}
	addr   string
}

// startProcess runs the program with a NATS server of its own.
func startProcess(t *testing.T, args ...string) *realProcess {
	t.Helper()
	p := runProcess(t, append([]string{"-i", "127.0.0.1", "-p", "-1", "--embedded-nats", "--embedded-nats-listen", "127.0.0.1:0"}, args...)...)
	p.addr = p.after(" msg=listening addr=")
	return p
}

func runProcess(t *testing.T, args ...string) *realProcess {
	t.Helper()
	p := &realProcess{t: t, cmd: exec.Command(os.Args[0]), stderr: newOutput(), exited: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), argsVariable+"="+strings.Join(args, "\n"))
	p.cmd.Stderr = p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.exited
	})
	return p
}

// after waits until text is in the log and returns the word that follows it.
func (p *realProcess) after(text string) string {
	p.t.Helper()
	late := time.After(patience)
	for {
		if _, rest, ok := strings.Cut(p.stderr.String(), text); ok {
			if i := strings.IndexAny(rest, " \n"); i >= 0 {
				return rest[:i]
			}
		}
		select {
		case <-p.stderr.changed:
		case <-p.exited:
			p.t.Fatalf("exit before %q was logged:\n%s", text, p.stderr)
		case <-late:
			p.t.Fatalf("%q is not logged:\n%s", text, p.stderr)
		}
	}
}

func (p *realProcess) signal() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
}

// wantExit waits for the end.
func (p *realProcess) wantExit(code int) {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(patience):
		p.t.Fatalf("the process does not end:\n%s", p.stderr)
	}
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.t.Errorf("exit code %d, want %d:\n%s", got, code, p.stderr)
	}
}

func (p *realProcess) dial(text string) (net.Conn, *bufio.Reader) {
	p.t.Helper()
	c, err := net.Dial("tcp", p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, text); err != nil {
		p.t.Fatal(err)
	}
	return c, bufio.NewReader(c)
}

// webSocket opens a WebSocket and returns a channel that gets the code that it is closed with.
func (p *realProcess) webSocket() (closed chan uint16) {
	p.t.Helper()
	c, r := p.dial("GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
	if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		p.t.Fatalf("upgrade: %v %v", resp, err)
	}
	closed = make(chan uint16, 1)
	go func() {
		var frame [4]byte
		if _, err := io.ReadFull(r, frame[:]); err != nil || frame[0] != 0x88 {
			closed <- 1006
			return
		}
		_, _ = c.Write([]byte{0x88, 0x82, 0, 0, 0, 0, frame[2], frame[3]})
		closed <- binary.BigEndian.Uint16(frame[2:])
	}()
	return closed
}

// An incomplete body keeps neither the WebSockets from being closed in order, nor the process from
// an orderly end.
func TestSignalWithAnIncompleteBody(t *testing.T) {
	p := startProcess(t, "--drain-timeout", "300ms", "--close-timeout", "300ms")
	var webSockets []chan uint16
	for range 20 {
		webSockets = append(webSockets, p.webSocket())
	}
	p.dial("POST /api/test/model/set HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n")
	// The body's connection is on its way to net/http. A further request tells when it has been
	// read.
	if resp, err := http.Get("http://" + p.addr + "/healthz"); err != nil || resp.StatusCode != 200 {
		t.Fatalf("health: %v %v", resp, err)
	}
	p.signal()
	p.wantExit(0)
	for i, c := range webSockets {
		if code := <-c; code != 1001 {
			t.Errorf("WebSocket %d was closed with %d, want 1001", i, code)
		}
	}
	if text := p.stderr.String(); !strings.Contains(text, "connections cut") {
		t.Errorf("the log does not tell of the cut connection:\n%s", text)
	}
}

func TestSignalDuringDrainEndsTheProcess(t *testing.T) {
	p := startProcess(t, "--shutdown-delay", "1h")
	p.webSocket()
	p.signal()
	p.after("msg=drain")
	p.signal()
	p.wantExit(1)
}

// Clients that connect while the balancer has not yet noticed are served.
func TestSignalWithShutdownDelay(t *testing.T) {
	p := startProcess(t, "--shutdown-delay", "1s", "--drain-timeout", "0")
	p.signal()
	p.after("msg=drain")
	late := p.webSocket()
	_, r := p.dial("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("health: %v %v", resp, err)
	}
	p.wantExit(0)
	if code := <-late; code != 1001 {
		t.Errorf("closed with %d, want 1001", code)
	}
}

func TestSignalBeforeNATSIsThere(t *testing.T) {
	p := runProcess(t, "-p", "-1", "--nats", "nats://127.0.0.1:1", "--nats-timeout", "1h")
	p.after("NATS")
	p.signal()
	p.wantExit(0)
}
