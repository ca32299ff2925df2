package netpoll

import (
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrNoSockets says that the engine's listening sockets cannot be had.
var ErrNoSockets = errors.New("netpoll: the listening sockets cannot be handed over on this system: it needs Linux and /proc")

// Sockets returns duplicates of the sockets that the engine listens on, for another process. The
// caller closes them. Any goroutine may call it, once the engine has started.
func Sockets(e *Engine) (fds []int, err error) {
	defer func() {
		if err != nil {
			closeAll(fds)
			fds = nil
		}
	}()
	for _, l := range e.opts.Listeners {
		fd, err := DupSocket(l)
		if err != nil {
			return fds, err
		}
		fds = append(fds, fd)
	}
	if len(e.opts.Listeners) > 0 {
		return fds, nil
	}
	for _, l := range e.loops {
		p := l.wait.parker.Load()
		if p == nil {
			return fds, ErrNoSockets
		}
		for _, number := range p.Listeners() {
			fd, err := dup(number)
			if err != nil {
				return fds, err
			}
			fds = append(fds, fd)
			// If gnet has just ended, the number may be another file's by now.
			if is, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || is == 0 {
				return fds, errors.New("netpoll: the engine is being restarted: try again")
			}
		}
	}
	if len(fds) == 0 {
		return nil, ErrNoSockets
	}
	return fds, nil
}

// Leave ends listening, because another process accepts from the same sockets (Sockets). No client
// is refused: what the kernel has queued is left to that process, and the connections that were
// accepted before are served until Drain. Any goroutine may call it.
func Leave(e *Engine) {
	e.left.Store(true)
	passed{e}.close()
	for _, l := range e.loops {
		l.Wake()
	}
}

// DupSocket returns a duplicate of a listener's descriptor that child processes do not inherit.
func DupSocket(l net.Listener) (fd int, err error) {
	c, ok := l.(syscall.Conn)
	if !ok {
		return -1, ErrNoSockets
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	if end := raw.Control(func(from uintptr) { fd, err = dup(int(from)) }); end != nil {
		return -1, end
	}
	return fd, err
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}
