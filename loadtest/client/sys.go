//go:build linux

package client

import (
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The sockets are non-blocking, so reads and writes bypass the Go scheduler's bookkeeping
// for system calls that may block.

func readSocket(fd int32, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

func writeSocket(fd int32, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// epollWait blocks for at most ns nanoseconds; a negative ns is no limit.
func epollWait(fd int, events []unix.EpollEvent, ns int64) (int, error) {
	var ts *unix.Timespec
	if ns >= 0 {
		t := unix.NsecToTimespec(ns)
		ts = &t
	}
	n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(fd), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), uintptr(unsafe.Pointer(ts)), 0, 8)
	switch errno {
	case 0:
		return int(n), nil
	case unix.ENOSYS, unix.EPERM: // before Linux 5.11, or in a sandbox: whole milliseconds
		ms := -1
		if ns >= 0 {
			ms = int((ns + 999_999) / 1_000_000)
		}
		k, err := unix.EpollWait(fd, events, ms)
		if err == unix.EINTR {
			return 0, nil
		}
		return k, err
	case unix.EINTR:
		return 0, nil
	}
	return 0, errno
}

// sleepUntil sleeps until a time of Now. It may return early.
func sleepUntil(at int64) {
	if ns := at - Now(); ns > 0 {
		ts := unix.NsecToTimespec(ns)
		_ = unix.Nanosleep(&ts, nil)
	}
}

// Clients per source address, and the first port of each. The harness chooses ports because
// the kernel's search for a free one slows down with the number of clients. At 19,000 it
// was nine tenths of the cost of connecting.
const (
	perSource = 8000
	firstPort = 20000
)

// source returns the address from which the index-th client connects on the loopback. The
// process id is in the middle octets, so that two runs do not collide.
func source(index int) *unix.SockaddrInet4 {
	pid := os.Getpid()
	return &unix.SockaddrInet4{
		Addr: [4]byte{127, byte(1 + pid%250), byte(pid / 250 % 250), byte(1 + index/perSource%250)},
		Port: firstPort + index%perSource,
	}
}

// dial creates a socket and starts to connect it. To a server on the loopback it connects
// from addresses spread over 127.0.0.0/8.
func dial(to netip.AddrPort, index int) (int32, error) {
	family := unix.AF_INET
	if to.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := connect(fd, to, index); err != nil && err != unix.EINPROGRESS {
		_ = unix.Close(fd)
		return -1, err
	}
	return int32(fd), nil
}

func connect(fd int, to netip.AddrPort, index int) error {
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return err
	}
	if to.Addr().Is6() {
		return unix.Connect(fd, &unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())})
	}
	if to.Addr().IsLoopback() {
		if err := bind(fd, index); err != nil {
			return err
		}
	}
	return unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
}

// bind binds the socket to its source address. If the port is in use, the kernel chooses
// another one at the connect.
func bind(fd, index int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	from := source(index)
	if err := unix.Bind(fd, from); err != unix.EADDRINUSE {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
		return err
	}
	from.Port = 0
	return unix.Bind(fd, from)
}

// socketError returns the error of a connect that has completed.
func socketError(fd int32) error {
	code, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err
	}
	if code != 0 {
		return unix.Errno(code)
	}
	return nil
}
