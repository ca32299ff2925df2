//go:build !linux

package park

// HoldsProcessor reports whether a waiting loop holds a processor of Go's scheduler. There should
// then be one more of them than loops.
const HoldsProcessor = true

// Parker does not exist here: Go's scheduler cannot wait for a kqueue, so loops wait in gnet.
type Parker struct{}

// New returns no parker.
func New(int, func()) (*Parker, error) { return nil, nil }

// Close frees the parker.
func (*Parker) Close() {}

// Ready reports whether a socket is ready.
func (*Parker) Ready() bool { return true }

// Wait waits for a socket or Wake.
func (*Parker) Wait() (ready, waited bool) { return true, false }

// Yield lets other goroutines run.
func (*Parker) Yield() bool { return true }

// Notice has Go notice sockets, or not.
func (*Parker) Notice(bool) {}

// Wake ends a Wait.
func (*Parker) Wake() {}

// Watch has the input of a socket watched, or not.
func (*Parker) Watch(int, bool) bool { return false }

// Accept has listeners watched, or not.
func (*Parker) Accept(bool) bool { return false }

// StopListening closes the listeners.
func (*Parker) StopListening(func(fd int)) {}

// Listeners implements the Linux Parker's method: there are none.
func (*Parker) Listeners() []int { return nil }
