//go:build !linux

package netpoll

import "sluice/netpoll/park"

// descriptors is for loops that read their sockets themselves, which those that wait in gnet do
// not.
type descriptors struct{}

func newDescriptors(int) descriptors { return descriptors{} }

func (*descriptors) set(int, uint32) {}

func (w *waiting) read(*park.Parker) (all bool) { return false }
