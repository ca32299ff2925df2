// Package uring sends on many sockets with one system call, through a raw io_uring ring of Linux.
//
// It knows descriptors and bytes, never connections, and never waits for a socket. The caller adds
// sends, submits them, takes one result for each send that the kernel took, and then releases the
// results:
//
//	r, err := uring.New(64, uring.Kernel) // and once: r.Probe()
//	slot := r.Add(fd, b)                  // up to r.Cap() times; b stays alive and unchanged
//	left, err := r.Submit()               // the last left sends were not taken
//	slot, result, err := r.Next()         // once for each send that was taken
//	r.Taken()
package uring
