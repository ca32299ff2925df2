//go:build linux

package wire

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"sluice/wsproto"
)

const (
	smallBuffer = 64 << 10 // bytes
	writeLimit  = time.Minute
)

// Frame is a message or control frame from the server, or the end of the connection.
type Frame struct {
	Op   wsproto.Op
	Text string
	Code int // of a close frame; NoClose for an end without one, -1 if the server broke RFC 6455
}

// NoClose stands for the end of a connection without a close frame (RFC 6455 section 7.1.5).
const NoClose = 1006

// Conn is a client's WebSocket connection. One goroutine sends, another receives.
type Conn struct {
	net.Conn
	rest    []byte // what came with the response to the upgrade
	deflate bool
	out     []byte
	key     uint32
	limit   int
}

// Options are what a client asks for when it connects.
type Options struct {
	Path    string // empty: /
	Deflate bool   // offer permessage-deflate
	Key     uint32 // seed of the masking keys
	Limit   int    // bytes of a message from the server
}

// Upgrade makes a WebSocket of a connection within a minute. It closes the connection if the
// server does not agree.
func Upgrade(conn net.Conn, o Options) (*Conn, error) {
	extensions, path := "", o.Path
	if o.Deflate {
		extensions = "Sec-WebSocket-Extensions: " + wsproto.DeflateOffer + "\r\n"
	}
	if path == "" {
		path = "/"
	}
	_ = conn.SetDeadline(time.Now().Add(writeLimit))
	_, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"+extensions+"\r\n")
	var head []byte
	for err == nil {
		buf := make([]byte, 4<<10)
		var n int
		n, err = conn.Read(buf)
		head = append(head, buf[:n]...)
		if before, after, ok := strings.Cut(string(head), "\r\n\r\n"); ok {
			if !strings.HasPrefix(before, "HTTP/1.1 101") {
				line, _, _ := strings.Cut(before, "\r\n")
				err = fmt.Errorf("upgrade refused: %.40s", line)
				break
			}
			_ = conn.SetDeadline(time.Time{})
			return &Conn{Conn: conn, rest: []byte(after), deflate: strings.Contains(strings.ToLower(before), "permessage-deflate"), key: o.Key, limit: o.Limit}, nil
		}
	}
	Reset(conn)
	return nil, err
}

// Deflates reports whether the server has accepted permessage-deflate.
func (w *Conn) Deflates() bool { return w.deflate }

// Shrink gives a connection a small receive buffer, so that a client that does not read is soon
// noticed.
func Shrink(c net.Conn) {
	if raw, err := c.(syscall.Conn).SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, smallBuffer)
		})
	}
}

// Receive passes on what the server sends, until the end or until stop is closed. It does not read
// on before a frame is taken, so a client that takes none is a slow reader.
func (w *Conn) Receive(out chan<- Frame, stop <-chan struct{}) {
	var p wsproto.Parser
	p.FromServer()
	if w.deflate {
		p.EnableDeflate()
	}
	defer p.Reset()
	give := func(f Frame) bool {
		select {
		case out <- f:
			return true
		case <-stop:
			return false
		}
	}
	buf := append(make([]byte, 0, 16<<10), w.rest...)
	have := len(buf)
	for {
		for {
			m, n, done, err := p.Next(buf[:have], wsproto.Limits{Message: w.limit})
			if err != nil {
				give(Frame{Op: wsproto.OpClose, Code: -1, Text: err.Error()})
				return
			}
			if done && !give(Frame{Op: m.Op, Text: string(m.Payload), Code: int(m.Code)}) {
				return
			}
			if done && m.Op == wsproto.OpClose {
				return
			}
			if n == 0 {
				break
			}
			have = copy(buf, buf[n:have])
		}
		if want := max(have+4<<10, p.Need()); want > len(buf) {
			buf = append(buf[:have], make([]byte, want)...)
		}
		n, err := w.Read(buf[have:])
		have += n
		if n == 0 && err != nil {
			give(Frame{Op: wsproto.OpClose, Code: NoClose, Text: err.Error()})
			return
		}
	}
}

// Send sends a frame.
func (w *Conn) Send(op wsproto.Op, payload string) error {
	var key [4]byte
	w.key = w.key*1664525 + 1013904223
	binary.LittleEndian.PutUint32(key[:], w.key)
	w.out = wsproto.AppendMaskedFrame(w.out[:0], true, op, []byte(payload), key)
	_ = w.SetWriteDeadline(time.Now().Add(writeLimit))
	_, err := w.Write(w.out)
	return err
}
