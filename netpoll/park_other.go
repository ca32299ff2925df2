//go:build !linux

package netpoll

// HoldsProcessor says whether a waiting Loop holds a processor of Go's scheduler, of which there should then be one more
// than loops.
const HoldsProcessor = true

// parker: a kqueue cannot be waited for in Go's scheduler; loops wait in gnet.
type parker struct{}

func newParker(int, func()) (*parker, error) { return nil, nil }

func (*parker) close()                     {}
func (*parker) ready() bool                { return true }
func (*parker) wait() (ready, waited bool) { return true, false }
func (*parker) yield() bool                { return true }
func (*parker) hear(bool)                  {}
func (*parker) wake()                      {}
func (*parker) listen(int, bool) bool      { return false }
func (*parker) stopListening(func(fd int)) {}
