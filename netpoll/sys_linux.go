package netpoll

import (
	"time"

	"golang.org/x/sys/unix"
)

// socket opens a TCP socket that child processes do not inherit.
func socket(family int) (int, error) {
	return unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
}

// socketpair opens two connected sockets that do not block and are not inherited.
func socketpair() ([2]int, error) {
	return unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
}

// setPatience has the kernel give up a peer that acknowledges nothing, or takes nothing, for so long.
func setPatience(fd int, patience time.Duration) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(patience/time.Millisecond))
}
