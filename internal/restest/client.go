package restest

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gobwas/ws"
)

// CloseNone is the close code of a connection that ended without a closing handshake.
const CloseNone = 1006

// Client is a scripted WebSocket client: it sends only what its methods are called with, and queues
// what it receives. It responds to pings and close frames. It is safe for concurrent use.
type Client struct {
	Name    string
	conn    net.Conn
	arrived func() // called after every arrival; nothing is read until it returns

	writing sync.Mutex // one frame at a time

	mu     sync.Mutex
	queue  []string        // received, in order, not yet taken
	hidden map[string]bool // responses to the runner's own requests, by ID
	closed bool
	code   int
}

// hiddenIDs is the first request ID of the runner's own requests, and their maximum number. Their
// responses are not part of a transcript.
const hiddenIDs = 1_000_000_000

// Dial opens a WebSocket connection. arrived is called, from the reading goroutine, after each
// message and at the end of the connection; nil for none. The client reads on when it returns.
func Dial(name, url string, arrived func()) (*Client, error) {
	return DialTLS(name, url, nil, arrived)
}

// DialTLS is Dial for a URL of the scheme wss; a nil config is the default one.
func DialTLS(name, url string, config *tls.Config, arrived func()) (*Client, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	d := ws.Dialer{TLSConfig: config, Header: ws.HandshakeHeaderHTTP(http.Header{"X-Client": {name}})}
	conn, br, _, err := d.Dial(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("client %s: %w", name, err)
	}
	if br == nil {
		br = bufio.NewReader(conn)
	}
	return newClient(name, conn, br, arrived), nil
}

// newClient returns a client on an upgraded connection; br has buffered the bytes after the
// response.
func newClient(name string, conn net.Conn, br *bufio.Reader, arrived func()) *Client {
	if arrived == nil {
		arrived = func() {}
	}
	c := &Client{Name: name, conn: conn, arrived: arrived, hidden: map[string]bool{}, code: CloseNone}
	go c.read(br)
	return c
}

func (c *Client) read(br *bufio.Reader) {
	defer func() {
		c.mu.Lock()
		c.closed = true
		c.mu.Unlock()
		_ = c.conn.Close()
		c.arrived()
	}()
	var message []byte
	for {
		h, err := ws.ReadHeader(br)
		if err != nil {
			return
		}
		payload := make([]byte, h.Length)
		if _, err := io.ReadFull(br, payload); err != nil {
			return
		}
		switch h.OpCode {
		case ws.OpPing:
			_ = c.frame(ws.OpPong, payload)
		case ws.OpPong:
		case ws.OpClose:
			code, _ := ws.ParseCloseFrameData(payload)
			c.mu.Lock()
			c.code = int(code)
			if len(payload) == 0 {
				c.code = int(ws.StatusNoStatusRcvd)
			}
			c.mu.Unlock()
			_ = c.frame(ws.OpClose, payload)
			return
		default:
			message = append(message, payload...)
			if h.Fin {
				c.take(string(message))
				message = message[:0]
			}
		}
	}
}

// take queues one complete message.
func (c *Client) take(m string) {
	id := hiddenID(m)
	c.mu.Lock()
	switch {
	case id != "":
		c.hidden[id] = true
	case hiddenEvent(m) != "":
	default:
		c.queue = append(c.queue, m)
	}
	c.mu.Unlock()
	c.arrived()
}

// hiddenID returns the ID of a response to one of the runner's own requests, else "".
func hiddenID(m string) string {
	var a struct {
		ID json.Number `json:"id"`
	}
	if json.Unmarshal([]byte(m), &a) != nil || a.ID == "" {
		return ""
	}
	if n, err := a.ID.Int64(); err != nil || n < hiddenIDs || n >= 2*hiddenIDs {
		return ""
	}
	return a.ID.String()
}

// Send sends one text frame.
func (c *Client) Send(m string) error { return c.frame(ws.OpText, []byte(m)) }

// SendBinary sends one binary frame.
func (c *Client) SendBinary(m string) error { return c.frame(ws.OpBinary, []byte(m)) }

func (c *Client) frame(op ws.OpCode, payload []byte) error {
	f := ws.MaskFrame(ws.NewFrame(op, true, payload))
	c.writing.Lock()
	defer c.writing.Unlock()
	b, err := ws.CompileFrame(f)
	if err != nil {
		return err
	}
	_, err = c.conn.Write(b)
	return err
}

// Shrink bounds the connection's receive buffer, so that a server notices that it is not read. The
// buffer has room for two segments of a loopback connection: with less, TCP moves one every 200 ms.
func (c *Client) Shrink() error { return shrink(c.conn) }

func shrink(conn net.Conn) error {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	return conn.(*net.TCPConn).SetReadBuffer(128 << 10)
}

// Close begins the closing handshake.
func (c *Client) Close(code int) error {
	return c.frame(ws.OpClose, ws.NewCloseFrameBody(ws.StatusCode(code), ""))
}

// Cut ends the connection without a closing handshake.
func (c *Client) Cut() { _ = c.conn.Close() }

// Next dequeues the oldest message.
func (c *Client) Next() (m string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		return "", false
	}
	m = c.queue[0]
	c.queue = c.queue[1:]
	return m, true
}

// Waiting returns the queued messages, oldest first.
func (c *Client) Waiting() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.queue...)
}

// Closed reports whether the connection ended, and with which close code.
func (c *Client) Closed() (code int, closed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.code, c.closed
}

// answered reports, once, whether a hidden request has its response.
func (c *Client) answered(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	ok := c.hidden[id]
	delete(c.hidden, id)
	return ok
}
