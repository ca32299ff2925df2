package natsbus

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// directConn reads from and writes to a socket by system calls that bypass Go's scheduler. The
// socket does not block, so they never wait. A call that the scheduler knows of wakes its monitor
// (sysmon) if the program was idle, and that polls every 20 µs until the program is idle again: a
// fifth of the CPU of a gateway that sleeps after nearly every message.
//
// While the monitor sleeps, nothing interrupts a goroutine that works for long. What the gateway
// has to do for long is caused by much data, so after a read of much the next one wakes it.
type directConn struct {
	net.Conn
	in, out transfer // of Read, of Write
}

// muchRead is how many bytes of a read are much: half of what nats.go reads at a time.
const muchRead = 16 << 10

// transfer is a Read or Write in progress. Its bytes are those of the caller.
type transfer struct {
	call  uintptr
	known bool // the next call is not to bypass the scheduler
	left  []byte
	moved int
	errno syscall.Errno

	// Made once.
	wait func(step func(fd uintptr) (done bool)) error
	step func(fd uintptr) (done bool)
}

// direct returns a connection that does the same as c with less overhead, or c itself if it is not
// a socket.
func direct(c net.Conn) net.Conn {
	s, ok := c.(syscall.Conn)
	if !ok {
		return c
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return c
	}
	d := &directConn{Conn: c}
	d.in.call, d.in.wait, d.in.step = unix.SYS_READ, raw.Read, d.in.read
	d.out.call, d.out.wait, d.out.step = unix.SYS_WRITE, raw.Write, d.out.write
	return d
}

// Read is for one goroutine at a time.
func (c *directConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := c.in.run("read", p)
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

// Write is for one goroutine at a time.
func (c *directConn) Write(p []byte) (int, error) { return c.out.run("write", p) }

func (t *transfer) run(name string, p []byte) (int, error) {
	t.left, t.moved, t.errno = p, 0, 0
	err := t.wait(t.step) // fails when the connection is closed, or its deadline passes
	t.left = nil
	if err == nil && t.errno != 0 {
		err = os.NewSyscallError(name, t.errno)
	}
	return t.moved, err
}

// read takes what there is. It reports false if there is nothing yet.
func (t *transfer) read(fd uintptr) (done bool) {
	done = t.do(fd)
	t.known = t.moved >= muchRead
	return done
}

// write reports false if the socket takes no more for now.
func (t *transfer) write(fd uintptr) (done bool) {
	for len(t.left) > 0 {
		if !t.do(fd) {
			return false
		}
		if t.errno != 0 {
			return true
		}
	}
	return true
}

// do makes one system call. It reports false if that would have had to wait.
func (t *transfer) do(fd uintptr) (done bool) {
	for {
		var n uintptr
		var errno syscall.Errno
		if t.known {
			n, _, errno = unix.Syscall(t.call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(t.left))), uintptr(len(t.left)))
		} else {
			n, _, errno = unix.RawSyscall(t.call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(t.left))), uintptr(len(t.left)))
		}
		switch errno {
		case 0:
			t.left, t.moved = t.left[n:], t.moved+int(n)
			return true
		case unix.EAGAIN:
			return false
		case unix.EINTR:
		default:
			t.errno = errno
			return true
		}
	}
}
