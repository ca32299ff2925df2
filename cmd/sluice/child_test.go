package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"sluice/internal/testkit"
)

// asProgram is the environment variable that makes the test binary the program.
const asProgram = "RUN_AS_SLUICE"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// child is the program as a process of its own.
type child struct {
	t      *testing.T
	cmd    *exec.Cmd
	output testkit.Log // stdout and stderr
	exited chan struct{}
	addr   string // where it listens, if listening started it
}

// spawn runs the program until the test ends, with environ and little else as its environment.
func spawn(t *testing.T, environ []string, args ...string) *child {
	t.Helper()
	c := &child{t: t, cmd: exec.Command(os.Args[0], args...), exited: make(chan struct{})}
	c.cmd.Env = append([]string{asProgram + "=1", "PATH=" + os.Getenv("PATH")}, environ...)
	c.start()
	return c
}

// start runs c.cmd until the test ends.
func (c *child) start() {
	t := c.t
	t.Helper()
	c.cmd.Stdout, c.cmd.Stderr = &c.output, &c.output
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = c.cmd.Wait()
		close(c.exited)
	}()
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		<-c.exited
	})
}

// listening runs the program on a loopback port and returns when it listens.
func listening(t *testing.T, args ...string) *child {
	t.Helper()
	c := spawn(t, nil, append([]string{"-i", "127.0.0.1", "-p", "-1"}, args...)...)
	c.addr = c.after("msg=listening addr=")
	return c
}

// after waits until text is in the output and returns the word that follows it.
func (c *child) after(text string) string {
	c.t.Helper()
	return after(c.t, &c.output, c.ended, text)
}

func (c *child) ended() bool {
	select {
	case <-c.exited:
		return true
	default:
		return false
	}
}

// after waits until text is in the log of a program and returns the word that follows it. ended
// reports whether the program has ended.
func after(t *testing.T, log *testkit.Log, ended func() bool, text string) (word string) {
	t.Helper()
	testkit.Until(t, fmt.Sprintf("%q is logged", text), func() bool {
		over := ended()
		_, rest, ok := strings.Cut(log.String(), text)
		if end := strings.IndexAny(rest, " \n\"}"); ok && end >= 0 {
			word = rest[:end]
			return true
		}
		if over {
			t.Fatalf("the program ended before %q was logged:\n%s", text, log)
		}
		return false
	})
	return word
}

func (c *child) signal(s os.Signal) {
	c.t.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		c.t.Fatal(err)
	}
}

// exitCode waits for the end of the process.
func (c *child) exitCode() int {
	c.t.Helper()
	select {
	case <-c.exited:
	case <-time.After(testkit.Patience):
		c.t.Fatalf("%q does not end:\n%s", c.cmd.Args[1:], &c.output)
	}
	return c.cmd.ProcessState.ExitCode()
}

// wantExit waits for the end of the process.
func (c *child) wantExit(code int) {
	c.t.Helper()
	if got := c.exitCode(); got != code {
		c.t.Errorf("exit code %d, want %d:\n%s", got, code, &c.output)
	}
}

// dial connects and sends text.
func (c *child) dial(text string) (net.Conn, *bufio.Reader) {
	c.t.Helper()
	conn, err := net.Dial("tcp", c.addr)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(testkit.Patience))
	if _, err := io.WriteString(conn, text); err != nil {
		c.t.Fatal(err)
	}
	return conn, bufio.NewReader(conn)
}

// webSocket opens a WebSocket and returns a channel that gets the code that it is closed with.
func (c *child) webSocket() (closed chan uint16) {
	c.t.Helper()
	conn, r := c.dial("GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
	if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		c.t.Fatalf("upgrade: %v %v", resp, err)
	}
	closed = make(chan uint16, 1)
	go func() {
		var frame [4]byte
		if _, err := io.ReadFull(r, frame[:]); err != nil || frame[0] != 0x88 {
			closed <- 1006
			return
		}
		_, _ = conn.Write([]byte{0x88, 0x82, 0, 0, 0, 0, frame[2], frame[3]})
		closed <- binary.BigEndian.Uint16(frame[2:])
	}()
	return closed
}
