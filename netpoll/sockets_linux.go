package netpoll

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"sluice/netpoll/park"
)

// A loop that waits in package park reads its sockets itself, for as long as it needs gnet for
// nothing else: gnet's way to a message has two more system calls, which besides are known to Go's
// scheduler, so that its monitor wakes up for them. Only messages are read here. gnet accepts, and
// closes; whatever else there is at a socket is left to it, and it finds the same.

// descriptors finds connections by the numbers of their sockets. Loops share it: a descriptor
// belongs to one connection of one of them. An entry is the slot of its latest connection, whose
// loop can tell whether it is still there.
type descriptors struct {
	pages []atomic.Pointer[descriptorPage] // by the number's higher bits
}

const (
	pageDescriptors = 1 << 10
	maxDescriptors  = 1 << 22 // the sockets above are gnet's
)

type descriptorPage [pageDescriptors]atomic.Uint32

// newDescriptors makes a table for the numbers below limit.
func newDescriptors(limit int) descriptors {
	n := (min(limit, maxDescriptors) + pageDescriptors - 1) / pageDescriptors
	return descriptors{pages: make([]atomic.Pointer[descriptorPage], n)}
}

// set notes that fd is the socket of the connection in a slot.
func (d *descriptors) set(fd int, slot uint32) {
	i := fd / pageDescriptors
	if i >= len(d.pages) {
		return
	}
	page := d.pages[i].Load()
	if page == nil {
		page = new(descriptorPage)
		if !d.pages[i].CompareAndSwap(nil, page) {
			page = d.pages[i].Load()
		}
	}
	page[fd%pageDescriptors].Store(slot)
}

// slot returns the slot that was set for fd; ok is false if none was.
func (d *descriptors) slot(fd int) (slot uint32, ok bool) {
	i := fd / pageDescriptors
	if i >= len(d.pages) {
		return 0, false
	}
	page := d.pages[i].Load()
	if page == nil {
		return 0, false
	}
	return page[fd%pageDescriptors].Load(), true
}

// connOf returns the loop's connection whose socket gnet watches as fd; nil if there is none.
func (l *Loop) connOf(fd int) *Conn {
	slot, ok := l.engine.byFD.slot(fd)
	if !ok || int(slot) >= len(l.table.slots) {
		return nil
	}
	c := l.table.slots[slot].conn
	if c == nil || int(c.fd) != fd || c.gc == nil {
		return nil
	}
	return c
}

// read is an iteration with what is at the sockets that are ready. It begins before these are asked
// for, since deadlines are judged at its end. It reports false if gnet has something to do.
func (w *waiting) read(p *park.Parker) (all bool) {
	l := w.loop
	if w.buffer == nil {
		w.buffer = make([]byte, readSize)
	}
	all = true
	l.begin()
	for _, e := range p.Events() {
		w.callbacks++
		fd := int(e.Fd)
		switch c := l.connOf(fd); {
		case fd == w.fd:
			_, err := readSocket(fd, w.buffer[:64])
			w.selfWakePending = w.selfWakePending && err != nil
			all = all && err == nil
		case c == nil || e.Events != unix.EPOLLIN:
			all = false
		case c.state >= stateReap || c.readPaused:
			// What is there belongs to another owner, or waits.
		default:
			n, err := readSocket(fd, w.buffer)
			if n > 0 {
				l.iter.handle(input{do: receiveInput, conn: c, b: w.buffer[:n]})
			} else if err != unix.EAGAIN {
				all = false
			}
		}
	}
	l.end()
	return all
}
