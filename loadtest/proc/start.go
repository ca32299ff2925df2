//go:build linux

package proc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Cores returns the cores that this process may use, in ascending order.
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

// pin pins the calling thread, and the processes that it starts, to cores. It does nothing
// without cores.
func pin(cores []int) error {
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

// StartPinned starts cmd on the given cores. The affinity is set before the program starts,
// so that its runtime counts only these cores.
func StartPinned(cmd *exec.Cmd, cores []int) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true // an interrupt at the terminal reaches only the harness, which stops its processes in order
	started := make(chan error, 1)
	go func() {
		// A child inherits the affinity of the thread that starts it. The goroutine does not
		// unlock the thread, so it ends with the goroutine and runs no other.
		runtime.LockOSThread()
		if err := pin(cores); err != nil {
			started <- err
			return
		}
		started <- cmd.Start()
	}()
	return <-started
}

// Process is a process that Start started, or one that has come of it.
type Process struct {
	Name    string
	process *os.Process
	group   int // of processes: what it starts is in it too
	output  func() string
	ended   chan struct{}    // closed when the process has ended
	state   *os.ProcessState // valid then; nil: another process has waited for it
}

// Start runs a command line, split at white space, on the given cores. env is added to this
// process's environment. The end of the output is kept for error messages.
func Start(name, line string, cores []int, env []string) (*Process, error) {
	output := newTail()
	return start(name, line, cores, env, &output, output.text)
}

// StartLogged is Start with an output that goes to a file. The process and those that it starts
// write to the file themselves, so they can outlive each other.
func StartLogged(name, line string, cores []int, env []string, log *os.File) (*Process, error) {
	return start(name, line, cores, env, log, func() string { return endOf(log) })
}

func start(name, line string, cores []int, env []string, out io.Writer, output func() string) (*Process, error) {
	words := strings.Fields(line)
	if len(words) == 0 {
		return nil, fmt.Errorf("%s: the command line is empty", name)
	}
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = out, out // one writer, so os/exec uses one goroutine for both
	if err := StartPinned(cmd, cores); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	p := &Process{Name: name, process: cmd.Process, group: cmd.Process.Pid, output: output, ended: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // ProcessState has the result
		p.state = cmd.ProcessState
		close(p.ended)
	}()
	return p, nil
}

// AdoptOrphans has processes become children of this one when their parents end, so that Successor
// can wait for them (PR_SET_CHILD_SUBREAPER of prctl(2)).
func AdoptOrphans() error { return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// Successor returns a process that p has started, which goes on when p has ended. AdoptOrphans was
// called before.
func (p *Process) Successor(pid int) (*Process, error) {
	process, err := os.FindProcess(pid)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.Name, err)
	}
	s := &Process{Name: p.Name, process: process, group: p.group, output: p.output, ended: make(chan struct{})}
	go func() {
		<-p.ended
		s.state, _ = process.Wait() // fails if p has waited for it
		close(s.ended)
	}()
	return s, nil
}

// PID returns the process id.
func (p *Process) PID() int { return p.process.Pid }

// Running reports whether the process has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// Ended returns a channel that is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Ready waits until a TCP connection to addr succeeds, for at most limit.
func (p *Process) Ready(addr string, limit time.Duration) error {
	for end := time.Now().Add(limit); ; {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			return c.Close()
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s ended before it was ready (%s): %s", p.Name, p.Exit(), p.output())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s does not listen on %s after %v: %s", p.Name, addr, limit, p.output())
		}
	}
}

// Kill kills the process and waits until it has ended.
func (p *Process) Kill() {
	_ = p.process.Kill() // fails only if it has ended
	<-p.ended
}

// KillAll kills the process and all that have come of it, and waits until it has ended.
func (p *Process) KillAll() {
	_ = syscall.Kill(-p.group, syscall.SIGKILL) // fails only if all have ended
	p.Kill()
}

// Stop sends SIGTERM, and kills the process if it has not ended within the limit.
func (p *Process) Stop(limit time.Duration) error {
	if err := p.process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.ended:
	case <-time.After(limit):
		p.Kill()
	}
	return nil
}

// Signal sends a signal.
func (p *Process) Signal(s syscall.Signal) error { return p.process.Signal(s) }

// Wait waits until the process has ended, for at most the limit, and returns its exit code: -1 if
// a signal ended it. It returns an error if the process still runs.
func (p *Process) Wait(limit time.Duration) (code int, err error) {
	select {
	case <-p.ended:
		return p.state.ExitCode(), nil
	case <-time.After(limit):
		return 0, fmt.Errorf("%s still runs after %v", p.Name, limit)
	}
}

// Exit waits until the process has ended, and returns its status for error messages.
func (p *Process) Exit() string {
	<-p.ended
	return p.state.String()
}

// Output returns the end of the process's output.
func (p *Process) Output() string { return p.output() }

// tail keeps the last bytes written to it. Only os/exec's copying goroutine writes; any
// goroutine may call text.
type tail struct {
	keep chan []byte // holds the bytes while no goroutine uses them
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

// endOf returns the last bytes of a file.
func endOf(f *os.File) string {
	info, err := f.Stat()
	if err != nil {
		return err.Error()
	}
	from := max(info.Size()-tailBytes, 0)
	kept := make([]byte, info.Size()-from)
	n, _ := f.ReadAt(kept, from)
	return string(bytes.TrimSpace(kept[:n]))
}

// FreePort returns a TCP port of the loopback that was free when it looked.
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

// firstPort and lastPort are the range of StablePort's choice. The kernel takes ports of outgoing
// connections from above it, unless it is configured otherwise.
const firstPort, lastPort = 10_000, 30_000

// begun is where StablePort begins in its range, and tried how many ports it has tried.
var (
	begun = rand.Uint32N(lastPort - firstPort)
	tried atomic.Uint32
)

// StablePort returns a free TCP port of the loopback that the kernel gives to no outgoing
// connection. So it is free again whenever the server on it restarts, with thousands of clients
// that try to connect to it. It does
// not return a port again before it has tried all others: the server may not listen yet.
func StablePort() (int, error) {
	for range 1000 {
		port := firstPort + int((begun+tried.Add(1))%(lastPort-firstPort))
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, l.Close()
		}
	}
	return 0, errors.New("no port of the loopback is free")
}

// Fill replaces each {name} in a command line by its value. An unknown name is an error.
func Fill(line string, values map[string]string) (string, error) {
	for name, v := range values {
		line = strings.ReplaceAll(line, "{"+name+"}", v)
	}
	if i := strings.IndexByte(line, '{'); i >= 0 {
		return "", fmt.Errorf("unknown placeholder in %q: use port, nats, feed, self, cert or key", line[i:])
	}
	return line, nil
}
