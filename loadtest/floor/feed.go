//go:build linux

package floor

import (
	"bytes"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"sluice/wsproto"
)

// The feed is the simplest way in for events: lines of a topic's number, a
// space, and the payload. The comparison's own servers take it as well.

// AppendLine appends an event as a line of the feed. payload must not hold a
// line feed.
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

// events sends the events in b and returns how much of it was whole lines.
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

func (s *Server) deliver(t *topic, frames []byte) {
	for i := len(t.subs) - 1; i >= 0; i-- { // backward: write may drop the one at hand
		if c := t.subs[i]; !s.write(c, frames) {
			s.drop(c)
		}
	}
}

// flush writes what a turn of the batched variant has gathered: with events of
// one topic, the same bytes to each of its subscribers; with several, each
// connection gets its own bytes in one write.
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
				c.waiting = append(c.waiting, t.pending...)
			}
		}
		for _, c := range dirty {
			c.dirty = false
			if !s.write(c, c.waiting) {
				s.drop(c)
			}
			c.waiting = c.waiting[:0]
		}
	}
	for _, t := range s.order {
		t.pending = t.pending[:0]
	}
	s.order = s.order[:0]
}

// maxLate bounds what waits for one client.
const maxLate = 16 << 20

// write is the one write(2). What a full socket does not take waits until it
// does; a client that lags too far behind is dropped.
func (s *Server) write(c *conn, b []byte) bool {
	if len(c.late) == 0 {
		n, ok := put(c.fd, b)
		if !ok || n == len(b) {
			return ok
		}
		b = b[n:]
		s.watchWrites(c, unix.EPOLLOUT)
	}
	c.late = append(c.late, b...)
	return len(c.late) <= maxLate
}

// catchUp writes what waits.
func (s *Server) catchUp(c *conn) bool {
	n, ok := put(c.fd, c.late)
	if !ok {
		return false
	}
	if c.late = c.late[n:]; len(c.late) == 0 {
		c.late = nil
		s.watchWrites(c, 0)
	}
	return true
}

func (s *Server) watchWrites(c *conn, events uint32) {
	// Cannot fail for a descriptor that is being watched.
	_ = unix.EpollCtl(s.epoll, unix.EPOLL_CTL_MOD, c.fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | events, Fd: int32(c.fd)})
}

// put writes as much as the socket takes.
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
