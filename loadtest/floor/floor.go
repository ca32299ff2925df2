//go:build linux

// Package floor is the harness's own server: the least work that a server can do
// for the same deliveries. It is the bound of the machine to compare gateways
// with. It reads events from its feed port and builds one WebSocket frame of each.
// Then it does one write(2) per event and subscriber (single), or one per
// connection for all events of a read (batched).
//
// It owns its sockets in one epoll loop and one thread. It is no gateway: it has
// no state of resources, no JSON, no timers and no access checks. It never limits
// clients, other than by message size.
package floor

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"sluice/wsproto"
)

// Options configure a server. The zero value is ready.
type Options struct {
	Port    int  // for clients, on the loopback; 0: any free one
	Feed    int  // port for events, on the loopback; 0: any free one
	Batched bool // one write per connection for all events of a read
}

// Server is a floor server. Any goroutine may call its methods.
type Server struct {
	batched  bool
	epoll    int
	clients  int // listening sockets
	feeds    int
	stop     int // eventfd
	done     chan struct{}
	err      error
	Addr     string // of clients, set by Listen
	FeedAddr string // of the feed, set by Listen
	buf      []byte
	out      []byte
	head     wsproto.Head
	conns    []*conn // by descriptor
	topics   map[int]*topic
	order    []*topic // with frames in the batch
}

// conn is one socket: a client's or a feed's.
type conn struct {
	fd     int
	feed   bool
	open   bool   // upgraded
	rest   []byte // read, and not complete
	queue  []byte // write queue: what the socket did not take
	parser wsproto.Parser
	topics []int
	batch  []byte // batched: frames of this read, if they are of several topics
	dirty  bool   // batch has frames
}

// topic is a topic's subscribers.
type topic struct {
	subs    []*conn
	pending []byte // batched: frames of this read
}

// maxMessage bounds, in bytes, a client's message.
const maxMessage = 1 << 20

// Listen opens the server's ports.
func Listen(o Options) (*Server, error) {
	s := &Server{batched: o.Batched, epoll: -1, clients: -1, feeds: -1, stop: -1, done: make(chan struct{}), buf: make([]byte, 1<<20), topics: map[int]*topic{}}
	if err := s.listen(o); err != nil {
		s.release()
		return nil, err
	}
	return s, nil
}

func (s *Server) listen(o Options) (err error) {
	if s.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	if s.stop, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		return err
	}
	if s.clients, s.Addr, err = listenOn(o.Port); err != nil {
		return err
	}
	if s.feeds, s.FeedAddr, err = listenOn(o.Feed); err != nil {
		return err
	}
	for _, fd := range []int{s.stop, s.clients, s.feeds} {
		if err := s.watch(fd); err != nil {
			return err
		}
	}
	return nil
}

func listenOn(port int) (fd int, addr string, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, "", err
	}
	if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err == nil {
		if err = unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err == nil {
			err = unix.Listen(fd, 4096)
		}
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, "", fmt.Errorf("floor: port %d: %w", port, err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		_ = unix.Close(fd)
		return -1, "", err
	}
	return fd, "127.0.0.1:" + strconv.Itoa(name.(*unix.SockaddrInet4).Port), nil
}

func (s *Server) watch(fd int) error {
	return unix.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP, Fd: int32(fd)})
}

func (s *Server) release() {
	for _, fd := range []int{s.epoll, s.clients, s.feeds, s.stop} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// Close stops the server and waits until Serve has returned. Call it once, after Serve was
// called.
func (s *Server) Close() error {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	if _, err := unix.Write(s.stop, one[:]); err != nil {
		return err
	}
	<-s.done
	return s.err
}

// Serve runs the loop until Close or an error.
func (s *Server) Serve() error {
	runtime.LockOSThread()
	defer close(s.done)
	defer func() {
		for _, c := range s.conns {
			if c != nil {
				_ = unix.Close(c.fd)
			}
		}
		s.release()
	}()
	events := make([]unix.EpollEvent, 512)
	for {
		n, err := unix.EpollWait(s.epoll, events, -1)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			s.err = err
			return err
		}
		for _, ev := range events[:n] {
			switch fd := int(ev.Fd); fd {
			case s.stop:
				return nil
			case s.clients, s.feeds:
				s.accept(fd)
			default:
				c := s.conns[fd]
				if c != nil && ev.Events&unix.EPOLLOUT != 0 && !s.drain(c) {
					s.drop(c)
					continue
				}
				if c != nil && ev.Events&^unix.EPOLLOUT != 0 {
					s.read(c)
				}
			}
		}
	}
}

// accept accepts all connections that a listener has.
func (s *Server) accept(listener int) {
	for {
		fd, _, err := unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return // EAGAIN, or no descriptor is left: the client gets no response
		}
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		for len(s.conns) <= fd {
			s.conns = append(s.conns, nil)
		}
		s.conns[fd] = &conn{fd: fd, feed: listener == s.feeds}
		if err := s.watch(fd); err != nil {
			s.drop(s.conns[fd])
		}
	}
}

// read reads once from a connection and handles what is complete.
func (s *Server) read(c *conn) {
	k := copy(s.buf, c.rest)
	if k == len(s.buf) {
		s.drop(c)
		return
	}
	free := s.buf[k:]
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(c.fd), uintptr(unsafe.Pointer(unsafe.SliceData(free))), uintptr(len(free)))
	if errno == unix.EAGAIN || errno == unix.EINTR {
		return
	}
	if errno != 0 || n == 0 {
		s.drop(c)
		return
	}
	b := s.buf[:k+int(n)]
	var used int
	switch {
	case c.feed:
		used = s.events(b)
	case c.open:
		used = s.frames(c, b)
	default:
		used = s.request(c, b)
	}
	if used < 0 {
		s.drop(c)
		return
	}
	if used == len(b) {
		c.rest = nil
	} else {
		c.rest = append(c.rest[:0], b[used:]...)
	}
}

// request upgrades the connection, or responds to any other request with a small JSON body.
// It returns how many bytes it has handled, -1 if the client broke the protocol.
func (s *Server) request(c *conn, b []byte) int {
	used := 0
	for used < len(b) {
		n, err := wsproto.ParseHead(b[used:], 0, &s.head)
		if err != nil {
			return -1
		}
		if n == 0 {
			break
		}
		used += n
		if s.head.IsUpgrade() {
			if wsproto.CheckUpgrade(&s.head) != nil {
				return -1
			}
			s.out = wsproto.AppendUpgrade(s.out[:0], &s.head, nil)
			if !s.write(c, s.out) {
				return -1
			}
			c.open = true
			more := s.frames(c, b[used:])
			if more < 0 {
				return -1
			}
			return used + more
		}
		if !s.write(c, response) {
			return -1
		}
	}
	return used
}

var response = []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: 13\r\n\r\n{\"name\":\"t0\"}")

// frames responds to a client's messages, each with a write: a hello, a subscription or a
// call. It returns how many bytes it has handled, -1 if the client broke the protocol.
func (s *Server) frames(c *conn, b []byte) int {
	used := 0
	for used < len(b) {
		m, n, done, err := c.parser.Next(b[used:], wsproto.Limits{Message: maxMessage})
		if err != nil {
			return -1
		}
		if n == 0 {
			break
		}
		used += n
		if !done {
			continue
		}
		switch {
		case m.Op == wsproto.OpClose:
			return -1
		case m.Op == wsproto.OpPing:
			s.out = wsproto.AppendFrame(s.out[:0], wsproto.OpPong, m.Payload)
		case m.Op == wsproto.OpPong:
			continue
		case bytes.HasPrefix(m.Payload, []byte("s ")):
			number, err := strconv.Atoi(string(m.Payload[2:]))
			if err != nil {
				return -1
			}
			s.subscribe(c, number)
			s.out = wsproto.AppendFrame(s.out[:0], wsproto.OpText, []byte("s"))
		default:
			s.out = wsproto.AppendFrame(s.out[:0], wsproto.OpText, m.Payload)
		}
		if !s.write(c, s.out) {
			return -1
		}
	}
	return used
}

// subscribe subscribes a connection to a topic.
func (s *Server) subscribe(c *conn, number int) {
	t := s.topics[number]
	if t == nil {
		t = &topic{}
		s.topics[number] = t
	}
	t.subs = append(t.subs, c)
	c.topics = append(c.topics, number)
}

// drop closes a connection and ends its subscriptions.
func (s *Server) drop(c *conn) {
	for _, number := range c.topics {
		t := s.topics[number]
		for i, sub := range t.subs {
			if sub == c {
				t.subs[i] = t.subs[len(t.subs)-1]
				t.subs = t.subs[:len(t.subs)-1]
				break
			}
		}
	}
	s.conns[c.fd] = nil
	_ = unix.Close(c.fd)
}
