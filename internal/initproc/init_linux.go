package initproc

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Run starts a program with the arguments after its name, and returns the exit code of the last
// process that has come of it: as in shells, 128 and the signal's number for one that a signal has
// ended. Signals go to all of them.
//
// Processes whose parents have ended become children of this one, and are waited for, so none stays
// a zombie. While Run runs, nothing else in the process may wait for children.
func Run(path string, args, environ []string, signals <-chan os.Signal) (int, error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("become the parent of orphans: %w", err)
	}
	// A group of their own: a signal to it reaches also a process whose parent has not ended.
	group, err := syscall.ForkExec(path, append([]string{path}, args...), &syscall.ProcAttr{
		Env: environ, Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		return 0, fmt.Errorf("start %s: %w", path, err)
	}
	over := make(chan struct{})
	defer close(over)
	go func() {
		for {
			select {
			case s := <-signals:
				if n, ok := s.(syscall.Signal); ok {
					_ = syscall.Kill(-group, n) // they may just have ended
				}
			case <-over:
				return
			}
		}
	}()
	code := 0
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.ECHILD):
			return code, nil
		case err != nil:
			return 0, fmt.Errorf("wait for process %d: %w", pid, err)
		case status.Signaled():
			code = 128 + int(status.Signal())
		default:
			code = status.ExitStatus()
		}
	}
}
