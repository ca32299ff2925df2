//go:build linux

package main

import (
	"crypto/tls"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"sluice/internal/restest"
	"sluice/internal/testkit"
)

var long = flag.Bool("long", false, "kill processes at every point of an upgrade, not only at some")

// fault is where the take-over between two processes is disturbed: before the record of a kind goes
// on, for the nth time. It is a variable of the environment of the old process, as its text.
type fault struct {
	signal syscall.Signal
	old    bool // the old process gets it, else the new one
	kind   int
	nth    int
}

const (
	faultVariable = "FAULT_OF_TEST"
	linkVariable  = "TAKEOVER_FD_OF_SLUICE"
)

func (f fault) String() string {
	return fmt.Sprintf("%d %v %d %d", int(f.signal), f.old, f.kind, f.nth)
}

// A process that is to take over, and finds a fault in its environment, is the one between: it
// starts the new process, and passes the records between the two.
func init() {
	var f fault
	var signal int
	if n, _ := fmt.Sscan(os.Getenv(faultVariable), &signal, &f.old, &f.kind, &f.nth); n == 4 && os.Getenv(linkVariable) != "" {
		f.signal = syscall.Signal(signal)
		os.Exit(between(f))
	}
}

// between passes records until the new process has ended.
func between(f fault) int {
	runtime.LockOSThread() // Pdeathsig is about this thread
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 2
	}
	unix.CloseOnExec(3)
	far := os.NewFile(uintptr(fds[1]), "link")
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, faultVariable+"=") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{far} // 3, as linkVariable says
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return 2
	}
	_ = far.Close()
	fmt.Fprintf(os.Stderr, "between pid=%d new=%d\n", os.Getpid(), cmd.Process.Pid)
	old := os.Getppid()
	var mu sync.Mutex
	left := f.nth
	pass := func(from, to int) {
		for record(from, to, func(kind int) {
			mu.Lock()
			defer mu.Unlock()
			if kind != f.kind {
				return
			}
			if left--; left == 0 {
				pid := cmd.Process.Pid
				if f.old {
					pid = old
				}
				_ = syscall.Kill(pid, f.signal)
				if f.signal == syscall.SIGSTOP && !f.old { // it may take its time
					_ = unix.Waitid(unix.P_PID, pid, nil, unix.WSTOPPED, nil)
				}
				fmt.Fprintln(os.Stderr, "fault injected")
			}
		}) {
		}
		_ = unix.Shutdown(to, unix.SHUT_WR)
		_ = unix.Shutdown(from, unix.SHUT_RD)
	}
	go pass(3, fds[0])
	go pass(fds[0], 3)
	_ = cmd.Wait()
	fmt.Fprintf(os.Stderr, "between ended pid=%d\n", os.Getpid())
	return 0
}

// record passes a record, with its descriptors. seen is called before it goes on.
func record(from, to int, seen func(kind int)) bool {
	var all []byte
	var fds []int
	defer func() {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}()
	for need := 8; len(all) < need; {
		b, oob := make([]byte, need-len(all)), make([]byte, unix.CmsgSpace(253*4))
		n, m, _, _, err := unix.Recvmsg(from, b, oob, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if messages, err := unix.ParseSocketControlMessage(oob[:max(m, 0)]); err == nil {
			for i := range messages {
				more, _ := unix.ParseUnixRights(&messages[i])
				fds = append(fds, more...)
			}
		}
		if err != nil || n <= 0 {
			return false
		}
		if all = append(all, b[:n]...); len(all) == 8 {
			need += int(binary.BigEndian.Uint32(all[4:]))
		}
	}
	seen(int(all[2]))
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	n, err := unix.SendmsgN(to, all, rights, nil, unix.MSG_NOSIGNAL)
	if err != nil {
		return false
	}
	_, err = io.Copy(writer(to), strings.NewReader(string(all[n:])))
	return err == nil
}

// writer writes to a descriptor.
type writer int

func (w writer) Write(b []byte) (n int, err error) {
	for n < len(b) {
		m, err := unix.SendmsgN(int(w), b[n:], nil, nil, unix.MSG_NOSIGNAL)
		if err != nil {
			return n, err
		}
		n += m
	}
	return n, nil
}

// kinds of records, as docs/upgrade.md has them.
const (
	helloRecord = iota + 1
	socketsRecord
	stepRecord
	readyRecord
	_ // failed
	commitRecord
	connectionsRecord
	prepareRecord
	preparedRecord
	_ // part
	moveRecord
	movedRecord
	_ // keys
	heldRecord
	yoursRecord
)

// points are where processes are killed.
func points() (all []fault) {
	for _, old := range []bool{false, true} {
		for _, kind := range []int{socketsRecord, readyRecord, commitRecord, connectionsRecord, prepareRecord, preparedRecord, moveRecord, heldRecord, yoursRecord, movedRecord} {
			all = append(all, fault{syscall.SIGKILL, old, kind, 1})
		}
	}
	for _, kind := range []int{prepareRecord, moveRecord, heldRecord, movedRecord} { // when some have moved
		all = append(all, fault{syscall.SIGKILL, false, kind, 3}, fault{syscall.SIGKILL, true, kind, 3})
	}
	return all
}

// Whichever of the two processes is killed, and whenever, each client is either served on, by one
// process and exactly, or it is disconnected, and is served exactly once it has connected again.
func TestKilledWhileClientsMove(t *testing.T) {
	all := points()
	if !*long {
		all = []fault{{syscall.SIGKILL, false, heldRecord, 3}, {syscall.SIGKILL, true, yoursRecord, 2}}
	}
	for _, f := range all {
		name := "new"
		if f.old {
			name = "old"
		}
		t.Run(fmt.Sprintf("%s before record %d no. %d", name, f.kind, f.nth), func(t *testing.T) { disturbed(t, f, false) })
	}
	t.Run("with TLS", func(t *testing.T) { disturbed(t, fault{syscall.SIGKILL, false, heldRecord, 3}, true) })
}

// A new process that does not answer in time gives its batch back, and uses none of it when it goes
// on: the clients are served meanwhile, and then all of them go over.
func TestStoppedWhileClientsMove(t *testing.T) {
	if !*long {
		return // it takes as long as a batch may be on its way
	}
	for _, kind := range []int{moveRecord, heldRecord} {
		disturbed(t, fault{syscall.SIGSTOP, false, kind, 2}, false)
	}
}

// disturbed upgrades a gateway with a fault.
func disturbed(t *testing.T, f fault, secure bool) {
	var w *world
	if environ := faultVariable + "=" + f.String(); secure {
		w, _ = secureWorld(t, tls.VersionTLS13, environ)
	} else {
		w = newWorld(t, "loops: 2\n", environ)
	}
	t.Cleanup(func() {
		for _, pid := range w.l.between("pid=") {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	w.begin()
	all := rids()
	w.fill(24)
	if !secure {
		for _, rid := range all {
			w.listen(rid)
		}
	}
	w.mayEnd = true
	upgraded := make(chan struct{})
	go func() {
		defer close(upgraded)
		_, _, _ = w.l.upgrade() // its result depends on the point
	}()
	w.l.until("fault injected", 1)
	w.settle(f)
	testkit.Await(t, upgraded, "the end of the upgrade")
	w.halt()
	w.mu.Lock()
	for _, rid := range all {
		w.mutate(rid) // a client that hangs misses it
		w.tick(rid)
	}
	w.mu.Unlock()
	codes := map[int]int{}
	for i := 0; i < len(w.clients); i++ {
		c := w.clients[i]
		code, closed := 0, false
		w.until(c, "it has all changes, or is disconnected", func() bool {
			code, closed = c.Closed()
			return closed || w.differs(c) == ""
		})
		if closed {
			codes[code]++
			w.client(c.rids...)
		}
	}
	ended := 0
	for _, s := range w.streams {
		testkit.Until(t, "stream of "+s.rid+": it has all changes and the custom event, or has ended", func() bool {
			w.follow(s)
			return s.Closed() || w.isNewest(s)
		})
		if s.Closed() {
			ended++
			again := w.listen(s.rid)
			testkit.Until(t, "stream of "+s.rid+": it has all changes", func() bool {
				w.follow(again)
				return w.isSame(again)
			})
		}
	}
	t.Logf("disconnected with %v, and %d streams", codes, ended)
	if ended > 0 && f.signal == syscall.SIGSTOP {
		t.Errorf("%d streams have ended", ended)
	}
	for code := range codes {
		if f.signal == syscall.SIGSTOP || code != 1001 && code != 1012 && code != restest.CloseNone {
			t.Errorf("clients are closed with %d", code)
		}
	}
}

// settle waits until a process serves that no fault concerns.
func (w *world) settle(f fault) {
	w.t.Helper()
	exited := func() bool {
		select {
		case <-w.l.exited:
			return true
		default:
			return false
		}
	}
	ended := func() bool { return strings.Contains(w.l.log(), "between ended") }
	if f.signal == syscall.SIGSTOP {
		back := f.kind == moveRecord // else it is the new process's already
		if back {
			w.l.until("on their way stay here", 1)
		}
		w.mu.Lock()
		sent := map[string]int{}
		for _, rid := range rids() {
			w.mutate(rid) // those of the old process get it now
			w.tick(rid)
			sent[rid] = w.ticks[rid]
		}
		w.mu.Unlock()
		if back {
			// The new process has the first batch, of four clients at most.
			testkit.Until(w.t, "streams that stay get the custom event", func() bool {
				have := 0
				for _, s := range w.streams {
					if w.follow(s); s.ticks >= sent[s.rid] {
						have++
					}
				}
				return have >= len(w.streams)-4
			})
		}
		for _, pid := range w.l.between("new=") {
			_ = syscall.Kill(pid, syscall.SIGCONT)
		}
	}
	testkit.Until(w.t, "the old process has ended, or goes on", func() bool {
		return exited() || !f.old && strings.Contains(w.l.log(), "upgrade failed")
	})
	if !exited() {
		return
	}
	testkit.Until(w.t, "the new process serves, or has ended", func() bool {
		if ended() {
			return true
		}
		c, err := w.dial("probe", nil)
		if err != nil {
			return false
		}
		c.Cut()
		return f.old || f.signal == syscall.SIGSTOP
	})
	if ended() {
		w.l.environ = nil
		w.l.run("-c", w.l.file)
	}
}

// between returns numbers that processes in between have logged.
func (l *lineage) between(what string) (pids []int) {
	for _, line := range strings.Split(l.log(), "\n") {
		if _, rest, ok := strings.Cut(line, what); ok && strings.HasPrefix(line, "between pid=") {
			var pid int
			if _, err := fmt.Sscan(rest, &pid); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
