package netpoll

import "golang.org/x/sys/unix"

// writev is write for several slices.
func writev(fd int, bufs [][]byte, _ []unix.Iovec) (int, error) { return unix.Writev(fd, bufs) }
