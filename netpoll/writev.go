//go:build linux || freebsd

package netpoll

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// writev is write for several slices; vector is scratch with room for all of them.
func writev(fd int, bufs [][]byte, vector []unix.Iovec) (int, error) {
	vector = vector[:0]
	for _, b := range bufs {
		v := unix.Iovec{Base: unsafe.SliceData(b)}
		v.SetLen(len(b))
		vector = append(vector, v)
	}
	n, _, errno := unix.RawSyscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(vector))), uintptr(len(vector)))
	clear(vector)
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}
