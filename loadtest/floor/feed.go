//go:build linux

package floor

import (
	"bytes"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"sluice/wsproto"
)

// A feed is the simplest protocol for publishing events: lines of a topic's number, a space,
// and the payload.

// AppendLine appends an event as a line of the feed. payload must not contain a line feed.
func AppendLine(dst []byte, topic int, payload []byte) []byte {
	dst = strconv.AppendInt(dst, int64(topic), 10)
	dst = append(dst, ' ')
	dst = append(dst, payload...)
	return append(dst, '\n')
}

// ParseLine splits a line of the feed; ok is false if it is malformed.
func ParseLine(line []byte) (topic int, payload []byte, ok bool) {
	number, payload, found := bytes.Cut(line, []byte{' '})
	topic, err := strconv.Atoi(string(number))
	return topic, payload, found && err == nil
}

// events delivers the events in b, and returns the length of its complete lines.
func (s *Server) events(b []byte) int {
	used := 0
	for {
		i := bytes.IndexByte(b[used:], '\n')
		if i < 0 {
			break
		}
		number, payload, ok := ParseLine(b[used : used+i])
		used += i + 1
		if t := s.topics[number]; ok && t != nil {
			if s.batched {
				if len(t.pending) == 0 {
					s.order = append(s.order, t)
				}
				t.pending = wsproto.AppendFrame(t.pending, wsproto.OpText, payload)
			} else {
				s.out = wsproto.AppendFrame(s.out[:0], wsproto.OpText, payload)
				s.deliver(t, s.out)
			}
		}
	}
	s.flush()
	return used
}

// deliver writes frames to all subscribers of a topic.
func (s *Server) deliver(t *topic, frames []byte) {
	for i := len(t.subs) - 1; i >= 0; i-- { // backward: drop removes the current one
		if c := t.subs[i]; !s.write(c, frames) {
			s.drop(c)
		}
	}
}

// flush writes the batch, once per connection. If it has events of one topic, all subscribers
// get the same bytes; otherwise each connection's frames are collected first.
func (s *Server) flush() {
	if len(s.order) == 1 {
		s.deliver(s.order[0], s.order[0].pending)
	} else {
		var dirty []*conn
		for _, t := range s.order {
			for _, c := range t.subs {
				if !c.dirty {
					c.dirty = true
					dirty = append(dirty, c)
				}
				c.batch = append(c.batch, t.pending...)
			}
		}
		for _, c := range dirty {
			c.dirty = false
			if !s.write(c, c.batch) {
				s.drop(c)
			}
			c.batch = c.batch[:0]
		}
	}
	for _, t := range s.order {
		t.pending = t.pending[:0]
	}
	s.order = s.order[:0]
}

// maxQueue bounds, in bytes, a connection's write queue.
const maxQueue = 16 << 20

// write writes to a connection with one write(2). What a full socket does not take goes to
// the write queue. It reports false if the queue is full or the connection is broken.
func (s *Server) write(c *conn, b []byte) bool {
	if len(c.queue) == 0 {
		n, ok := put(c.fd, b)
		if !ok || n == len(b) {
			return ok
		}
		b = b[n:]
		s.watchWrites(c, unix.EPOLLOUT)
	}
	c.queue = append(c.queue, b...)
	return len(c.queue) <= maxQueue
}

// drain writes the write queue. It reports false if the connection is broken.
func (s *Server) drain(c *conn) bool {
	n, ok := put(c.fd, c.queue)
	if !ok {
		return false
	}
	if c.queue = c.queue[n:]; len(c.queue) == 0 {
		c.queue = nil
		s.watchWrites(c, 0)
	}
	return true
}

// watchWrites makes epoll report a writable socket, or no longer.
func (s *Server) watchWrites(c *conn, events uint32) {
	// Cannot fail for a descriptor that epoll watches.
	_ = unix.EpollCtl(s.epoll, unix.EPOLL_CTL_MOD, c.fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | events, Fd: int32(c.fd)})
}

// put writes as much as the socket takes. ok is false if the connection is broken.
func put(fd int, b []byte) (n int, ok bool) {
	r, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	switch errno {
	case 0:
		return int(r), true
	case unix.EAGAIN:
		return 0, true
	}
	return 0, false
}
