package client

import (
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The sockets never block, so reads and writes bypass the scheduler's
// bookkeeping for system calls that might.

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

// epollWait waits for at most ns nanoseconds; a negative ns waits for ever.
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

// Clients per source address: an address has some 28,000 free ports towards one
// server, and finding one gets slow when they run out.
const perSource = 8000

// dial makes a socket and begins to connect it. A server on the loopback is
// met from addresses spread over 127.0.0.0/8.
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
		// Without this, bind itself would take a port that no other server could share.
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
			return err
		}
		source := 2 + index/perSource
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, byte(source >> 16), byte(source >> 8), byte(source)}}); err != nil {
			return err
		}
	}
	return unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
}

// socketError is what became of a connect.
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
