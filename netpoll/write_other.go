//go:build !linux

package netpoll

import "golang.org/x/sys/unix"

// write writes to a socket that does not block.
func write(fd int, b []byte) (int, error) { return unix.Write(fd, b) }

// writev is write for several slices.
func writev(fd int, bufs [][]byte, _ []unix.Iovec) (int, error) { return unix.Writev(fd, bufs) }
