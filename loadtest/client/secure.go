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

// secureConn is TLS over a client's socket. The handshake runs in a goroutine that blocks on
// the socket. After it the thread opens and seals records itself. An empty socket then
// returns a temporary error, after which crypto/tls can read again.
type secureConn struct {
	conn   *tls.Conn
	socket *socketConn
}

// handshakeLimit bounds a TLS handshake.
const handshakeLimit = 10 * time.Second

// startSecuring starts the handshake in a goroutine, which owns the socket until it is done.
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

// read reads decrypted bytes; EAGAIN if the socket is empty.
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

// write encrypts b and sends it.
func (s *secureConn) write(c *Conn, b []byte) {
	if _, err := s.conn.Write(b); err != nil {
		c.fail(err)
	}
}

// socketConn is the socket as the net.Conn that crypto/tls takes.
type socketConn struct {
	fd       int32
	blocking bool      // during the handshake
	until    time.Time // its end at the latest
	owner    *Conn     // after it
}

// waitError is returned by an empty socket.
type waitError struct{}

func (waitError) Error() string { return "the socket is empty" }
func (waitError) Timeout() bool { return true }

// Temporary keeps crypto/tls from failing all further reads.
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

// wait blocks until the socket is ready, or until the handshake's deadline.
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

// crypto/tls does not use the rest of net.Conn here: the thread closes the socket and keeps
// the deadline.

func (s *socketConn) Close() error                     { return nil }
func (s *socketConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (s *socketConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (s *socketConn) SetDeadline(time.Time) error      { return nil }
func (s *socketConn) SetReadDeadline(time.Time) error  { return nil }
func (s *socketConn) SetWriteDeadline(time.Time) error { return nil }
