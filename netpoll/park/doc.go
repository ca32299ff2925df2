// Package park lets the goroutine of an event loop wait for its sockets in Go's scheduler, as other
// goroutines wait, and not in a system call that keeps a thread and a processor.
//
// It knows an epoll and its descriptors, never connections or loops, and it never handles input.
// Where it is not available, New returns nil.
package park
