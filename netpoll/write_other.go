//go:build !linux

package netpoll

import "golang.org/x/sys/unix"

// write writes to a socket that does not block.
func write(fd int, b []byte) (int, error) { return unix.Write(fd, b) }
