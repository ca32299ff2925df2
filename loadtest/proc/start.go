//go:build linux

package proc

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Cores returns the cores that this process may use, in rising order.
func Cores() []int {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil
	}
	var cores []int
	for i := range 1024 {
		if set.IsSet(i) {
			cores = append(cores, i)
		}
	}
	return cores
}

// Pin confines the calling thread, and what it starts from now on, to cores;
// none means that nothing is done.
func Pin(cores []int) error {
	if len(cores) == 0 {
		return nil
	}
	var set unix.CPUSet
	for _, c := range cores {
		set.Set(c)
	}
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("pin to cores %v: %w", cores, err)
	}
	return nil
}

// StartPinned starts cmd on the given cores: its affinity is there before its
// first instruction, so that its runtime counts these cores only.
func StartPinned(cmd *exec.Cmd, cores []int) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true // an interrupt at the terminal is for the harness, which ends its processes in order
	started := make(chan error, 1)
	go func() {
		// A child inherits the affinity of the thread that starts it. The thread
		// is not unlocked, so it ends with this goroutine and nobody else runs on it.
		runtime.LockOSThread()
		if err := Pin(cores); err != nil {
			started <- err
			return
		}
		started <- cmd.Start()
	}()
	return <-started
}

// Process is a process that was started here.
type Process struct {
	Name   string
	cmd    *exec.Cmd
	output tail
	ended  chan struct{} // closed when it has ended: then cmd.ProcessState is valid
}

// Start runs a command line, which is split at white space, on the given cores.
// Its output is kept in part, for error messages.
func Start(name, line string, cores []int, env []string) (*Process, error) {
	words := strings.Fields(line)
	if len(words) == 0 {
		return nil, fmt.Errorf("%s: there is no command to start", name)
	}
	p := &Process{Name: name, cmd: exec.Command(words[0], words[1:]...), output: newTail(), ended: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	if err := StartPinned(p.cmd, cores); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	go func() {
		_ = p.cmd.Wait() // ProcessState tells
		close(p.ended)
	}()
	return p, nil
}

// PID is the process's.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Running is false once the process has ended.
func (p *Process) Running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// Ready waits until a TCP connection to addr succeeds, for at most limit.
func (p *Process) Ready(addr string, limit time.Duration) error {
	for end := time.Now().Add(limit); ; {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			return c.Close()
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s ended before it was ready (%s): %s", p.Name, p.Exit(), p.output.text())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s does not listen on %s after %v: %s", p.Name, addr, limit, p.output.text())
		}
	}
}

// Kill ends the process at once and waits for it.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // fails only if it has ended
	<-p.ended
}

// Stop asks the process to end, and kills it if it has not after the limit.
func (p *Process) Stop(limit time.Duration) error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.ended:
	case <-time.After(limit):
		p.Kill()
	}
	return nil
}

// Exit is how the process ended, for error messages; it waits for that.
func (p *Process) Exit() string {
	<-p.ended
	return p.cmd.ProcessState.String()
}

// Output is the end of what the process wrote.
func (p *Process) Output() string { return p.output.text() }

// tail keeps the last bytes written to it. Only exec's copying goroutine
// writes; text may be called by others.
type tail struct {
	keep chan []byte // one element: the bytes, so that one side has them at a time
}

const tailBytes = 4 << 10

func newTail() tail {
	t := tail{keep: make(chan []byte, 1)}
	t.keep <- nil
	return t
}

func (t *tail) Write(b []byte) (int, error) {
	kept := append(<-t.keep, b...)
	t.keep <- slices.Clone(kept[max(0, len(kept)-tailBytes):])
	return len(b), nil
}

func (t *tail) text() string {
	kept := <-t.keep
	t.keep <- kept
	return string(bytes.TrimSpace(kept))
}

// FreePort returns a TCP port of the loopback that was free a moment ago.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(port)
}

// Fill replaces {name} in a command line by its value; it reports what it does
// not know.
func Fill(line string, values map[string]string) (string, error) {
	for name, v := range values {
		line = strings.ReplaceAll(line, "{"+name+"}", v)
	}
	if i := strings.IndexByte(line, '{'); i >= 0 {
		return "", fmt.Errorf("unknown placeholder in %q: there are port, nats, feed and self", line[i:])
	}
	return line, nil
}
