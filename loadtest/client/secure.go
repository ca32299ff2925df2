//go:build linux

package client

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// secureConn is TLS over a client's socket. The handshake runs in a goroutine,
// which waits for the socket; afterwards the thread opens and seals records
// itself, and a socket that has nothing gives crypto/tls a temporary error,
// after which it can be asked again.
type secureConn struct {
	conn   *tls.Conn
	socket *socketConn
}

// handshakeLimit bounds a TLS handshake.
const handshakeLimit = 10 * time.Second

func (c *Conn) startSecuring() {
	t := c.t
	c.state = stateSecuring
	socket := &socketConn{fd: c.fd, blocking: true, until: time.Now().Add(handshakeLimit)}
	s := &secureConn{socket: socket, conn: tls.Client(socket, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})}
	go func() {
		err := s.conn.Handshake()
		t.post(func() {
			c.state = stateConnecting
			if err != nil {
				c.fail(err)
				return
			}
			socket.blocking, socket.owner = false, c
			c.secure = s
			c.opened()
			c.readable(0)
		})
	}()
}

func (s *secureConn) read(c *Conn, b []byte) (int, error) {
	n, err := s.conn.Read(b)
	var wait waitError
	if n == 0 && errors.As(err, &wait) {
		return 0, unix.EAGAIN
	}
	if n > 0 {
		err = nil
	}
	return n, err
}

func (s *secureConn) write(c *Conn, b []byte) {
	if _, err := s.conn.Write(b); err != nil {
		c.fail(err)
	}
}

// socketConn is the socket as crypto/tls wants it.
type socketConn struct {
	fd       int32
	blocking bool // during the handshake
	until    time.Time
	owner    *Conn // after it
}

// waitError says that the socket has nothing now.
type waitError struct{}

func (waitError) Error() string { return "nothing to read yet" }
func (waitError) Timeout() bool { return true }

// Temporary keeps crypto/tls from giving the connection up.
func (waitError) Temporary() bool { return true }

func (s *socketConn) Read(b []byte) (int, error) {
	for {
		n, err := readSocket(s.fd, b)
		switch {
		case err == nil && n == 0:
			return 0, errEnded
		case err != unix.EAGAIN:
			if s.owner != nil {
				s.owner.t.count.Reads++
				s.owner.t.count.Bytes += int64(n)
			}
			return n, err
		case !s.blocking:
			return 0, waitError{}
		}
		if err := s.wait(unix.POLLIN); err != nil {
			return 0, err
		}
	}
}

func (s *socketConn) Write(b []byte) (int, error) {
	if !s.blocking {
		s.owner.writeRaw(b)
		return len(b), nil
	}
	all := len(b)
	for len(b) > 0 {
		n, err := writeSocket(s.fd, b)
		if err == unix.EAGAIN {
			err = s.wait(unix.POLLOUT)
		}
		if err != nil {
			return all - len(b), err
		}
		b = b[n:]
	}
	return all, nil
}

func (s *socketConn) wait(events int16) error {
	for {
		left := time.Until(s.until)
		if left <= 0 {
			return os.ErrDeadlineExceeded
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: s.fd, Events: events}}, int(left/time.Millisecond)+1)
		if err != nil && err != unix.EINTR {
			return err
		}
		if n > 0 {
			return nil
		}
	}
}

// The rest of net.Conn is not used by crypto/tls here: the thread closes the
// socket itself and keeps its own time.

func (s *socketConn) Close() error                     { return nil }
func (s *socketConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (s *socketConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (s *socketConn) SetDeadline(time.Time) error      { return nil }
func (s *socketConn) SetReadDeadline(time.Time) error  { return nil }
func (s *socketConn) SetWriteDeadline(time.Time) error { return nil }
