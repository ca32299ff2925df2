package netpoll

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// write writes to a socket that does not block.
//
// The scheduler is not told: it would take the loop's processor away as soon as a call lasts 20 µs, which a
// delivery on loopback may, and its monitor would keep looking every 20 µs. At 19,000 clients on one core that
// made a delivery a third more expensive. The call never waits, so nobody else does for longer than it takes.
func write(fd int, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}
