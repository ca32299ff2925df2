//go:build !linux

package netpoll

import (
	"errors"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socket opens a TCP socket that child processes do not inherit.
func socket(family int) (int, error) {
	syscall.ForkLock.RLock() // no child process may start before the flag is set
	defer syscall.ForkLock.RUnlock()
	fd, err := unix.Socket(family, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fd)
	}
	return fd, err
}

// socketpair opens two connected sockets that do not block and are not inherited.
func socketpair() (fds [2]int, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fds, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return fds, err
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
		if e := unix.SetNonblock(fd, true); e != nil {
			err = e
		}
	}
	if err != nil {
		_ = unix.Close(fds[0])
		_ = unix.Close(fds[1])
	}
	return fds, err
}

// setUserTimeout does nothing: these kernels have no such option, and end the connection later.
func setUserTimeout(int, time.Duration) {}

// unread cannot tell how much the kernel holds for a peer: what counts then is whether the socket
// takes more.
func unread(int) int { return 0 }

// acknowledged is not known either.
func acknowledged(int) uint64 { return 0 }

// progress is not known.
func progress(int) (written, read uint64, ok bool) { return 0, 0, false }

// write writes to a socket that does not block.
func write(fd int, b []byte) (int, error) { return unix.Write(fd, b) }

// uringCalls replaces the system calls of io_uring, which only Linux has.
type uringCalls struct{}

var kernelURing uringCalls

func (e *Engine) setURingFlushers() error { return errors.New("only Linux has it") }
