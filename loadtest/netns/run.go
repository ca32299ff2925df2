//go:build linux

package netns

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
)

// Refused is returned by Run if the program cannot have namespaces of its own, or no steering in
// them. It has done nothing then.
type Refused struct{ Why string }

func (e Refused) Error() string { return e.Why }

// The first line that a program sends when it has entered.
const entered = "entered"

// Run runs cmd, which must call Enter first, in namespaces of its own, and returns what it reports:
// the error that it gave to Report, or how it ended. While it runs, an end of ctx is passed on as
// SIGTERM. If the caller is killed, the program and its processes are too. guard must run Guard.
func Run(ctx context.Context, cmd, guard *exec.Cmd) error {
	from, to, err := os.Pipe()
	if err != nil {
		return err
	}
	defer from.Close()
	cmd.ExtraFiles = []*os.File{to} // descriptor 3 there
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS,
		Setpgid:    true, // an interrupt at the terminal reaches only the caller
		Pdeathsig:  syscall.SIGKILL,
	}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	// The kernel counts the end of the starting thread as the parent's death.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	restore, err := lengthen(queueFile, guard)
	if err != nil {
		_ = to.Close()
		return Refused{fmt.Sprintf("the queue of arriving packets cannot be long enough: %v", err)}
	}
	defer restore()
	err = cmd.Start()
	_ = to.Close()
	if err != nil {
		return Refused{fmt.Sprintf("the kernel allows no namespaces: %v", err)}
	}
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-ctx.Done():
			_ = cmd.Process.Signal(syscall.SIGTERM)
		case <-done:
		}
	}()
	text, err := io.ReadAll(from)
	first, rest, _ := strings.Cut(string(text), "\n")
	exit := cmd.Wait()
	switch {
	case err != nil:
		return err
	case first == "":
		return Refused{fmt.Sprintf("the program ended before it had its namespaces: %v", exit)}
	case first != entered:
		return Refused{first}
	case rest != "":
		return errors.New(rest)
	case exit != nil:
		return fmt.Errorf("the run in a network namespace ended: %w", exit)
	}
	return nil
}
