//go:build linux

package client

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"sluice/wsproto"
)

type connState uint8

const (
	stateNone       connState = iota // no socket
	stateConnecting                  // TCP handshake
	stateSecuring                    // TLS handshake, in a goroutine that owns the socket until it is done
	stateUpgrading                   // waiting for 101 Switching Protocols
	stateOpening                     // waiting for the confirmations of subscriptions
	stateReady                       // all confirmed
)

// Conn is one client. Its thread owns it, except for the socket during a TLS handshake.
type Conn struct {
	t     *Thread
	slot  int32 // in the thread
	index int32 // among all clients of the run
	fd    int32 // -1: no socket
	state connState
	slow  bool

	// Since the connection was made.
	unasked int32  // subscriptions that it has yet to ask for, the last of its topics
	pending int32  // confirmations that the connection waits for before it is ready
	due     int64  // when it was due to be made; with HTTP: when the pending request was
	partial []byte // the beginning of a frame or response
	need    int    // bytes that partial must grow to before it can be complete
	parser  wsproto.Parser
	begun   bool // of an event stream: the head of the response is complete; of Socket.IO: the server has accepted the client
	chunked bool // of an event stream: it has the chunked transfer coding
	// fragmented reports whether the parser may hold the buffer of a fragmented message.
	fragmented bool
	stream     []byte // the driver's: the beginning of a message that spans frames, or of an event that spans chunks
	out        []byte // write queue: bytes that the socket did not take
	secure     *secureConn

	// Since the phase began.
	lastDue  int64
	received int64
	waiting  int32
	step     uint8 // of a churning client: subscribe, call, unsubscribe; or of pages: open, leave
	model    int32 // that it has subscribed to

	kept
}

// kept is what a client keeps when it loses its connection.
type kept struct {
	slots    int32 // in the load's queue
	attempts uint8 // to connect, since it was ready
	expected int64 // number of the next event
	newest   int64 // when the one before it was due
	pause    int64 // ns: the longest that it waited for an event that was due, since it was sampled
}

// maxMessage bounds, in bytes, what a server can make the harness buffer for one connection.
const maxMessage = 64 << 20

var (
	errEnded    = errors.New("the server closed the connection")
	errRejected = errors.New("the server rejected the upgrade")
)

// opened sends the upgrade request, after the TCP or TLS handshake.
func (c *Conn) opened() {
	if c.t.cfg.HTTP {
		c.becomeReady()
		return
	}
	c.state = stateUpgrading
	if c.t.streams {
		c.openStream()
		return
	}
	path, sub := c.t.driver.Path()
	b := append(c.t.scratch[:0], "GET "...)
	b = append(append(b, path...), " HTTP/1.1\r\nHost: "...)
	b = append(append(b, c.t.cfg.Addr...), "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"...)
	if sub != "" {
		b = append(append(append(b, "Sec-WebSocket-Protocol: "...), sub...), crlf...)
	}
	if c.t.cfg.Token != "" {
		b = append(append(append(b, "Authorization: Bearer "...), c.t.cfg.Token...), crlf...)
	}
	if c.t.cfg.Compression {
		b = append(b, "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n"...)
	}
	b = append(b, crlf...)
	c.write(b)
	c.t.scratch = b
}

// upgrade reads the response to the upgrade, and returns its length or 0 if it is not
// complete.
func (c *Conn) upgrade(b []byte) int {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		if len(b) > 16<<10 {
			c.fail(errRejected)
		}
		return 0
	}
	head := b[:end]
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 101")) {
		line, _, _ := bytes.Cut(head, crlf)
		c.fail(fmt.Errorf("%w: %s", errRejected, line))
		return 0
	}
	c.negotiated(c.t.cfg.Compression && bytes.Contains(bytes.ToLower(head), []byte("permessage-deflate")))
	c.state = stateOpening
	c.t.topics = c.t.cfg.TopicsOf(c.t.topics[:0], int(c.index))
	now := c.t.topics
	if _, ok := c.t.driver.(subscriber); ok {
		now = now[:min(len(now), openWindow)]
	}
	c.unasked = int32(len(c.t.topics) - len(now))
	c.t.driver.Open(c, now)
	c.pending += c.unasked
	if c.state == stateOpening && c.pending == 0 {
		c.becomeReady()
	}
	return end + 4
}

// negotiated prepares the parser for the server's frames.
func (c *Conn) negotiated(deflate bool) {
	c.parser.FromServer()
	if deflate {
		c.parser.KeepCompressed()
	}
}

// becomeReady counts the connection as ready, with the latency of connecting.
func (c *Conn) becomeReady() {
	t := c.t
	c.state = stateReady
	c.attempts = 0
	t.opening--
	t.count.Ready++
	if c.slow {
		t.count.Slow++
	}
	t.hists[Connect].Record(Now() - c.due)
	if t.load != nil {
		t.load.grant(c)
	}
}

// readable reads from the socket until it is empty.
func (c *Conn) readable(events uint32) {
	t := c.t
	for c.fd >= 0 {
		if c.slow && c.state == stateReady && !t.resumed {
			return
		}
		k := copy(t.buf, c.partial)
		var n int
		var err error
		if c.secure != nil {
			n, err = c.secure.read(c, t.buf[k:])
		} else {
			n, err = readSocket(c.fd, t.buf[k:])
			t.count.Reads++
			t.count.Bytes += int64(max(n, 0))
		}
		switch {
		case err == unix.EAGAIN:
			return
		case err != nil:
			c.fail(err)
			return
		case n == 0:
			c.fail(errEnded)
			return
		}
		t.now = Now()
		c.feed(t.buf[:k+n])
		// Edge-triggered: bytes that arrive after a short read raise another edge. An end of
		// the stream that this edge has reported does not, so read on until it shows.
		if c.secure == nil && k+n < len(t.buf) && events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) == 0 {
			return
		}
	}
}

// feed consumes the complete frames or responses of b and buffers the rest in partial.
func (c *Conn) feed(b []byte) {
	whole := b
	if c.state == stateUpgrading {
		n := c.upgrade(b)
		if c.fd < 0 {
			return
		}
		b = b[n:]
	}
	c.need = 0
	for len(b) > 0 && c.state >= stateOpening {
		var n int
		if c.t.cfg.HTTP {
			n = c.response(b)
		} else if c.t.streams {
			n = c.streamed(b)
		} else {
			n = c.frame(b)
		}
		if c.fd < 0 {
			return
		}
		if n == 0 {
			break
		}
		b = b[n:]
	}
	if c.fragmented && len(b) == 0 {
		_ = c.frame(nil) // returns the parser's buffer, if the message is complete
		c.fragmented = false
	}
	switch {
	case len(b) == 0:
		if cap(c.partial) > 4<<10 {
			c.partial = nil
		}
		c.partial = c.partial[:0]
	case len(b) == len(whole) && len(c.partial) > 0 && &whole[0] == &c.t.buf[0]:
		c.partial = append(c.partial, whole[len(c.partial):]...)
	default:
		c.partial = append(c.partial[:0], b...)
	}
	if want := max(c.need, len(c.partial)) + 64<<10; want > len(c.t.buf) {
		c.t.buf = make([]byte, want+want/2)
	}
}

// frame handles the first frame of b and returns its length, or 0 if b does not
// hold all of it.
func (c *Conn) frame(b []byte) int {
	m, n, done, err := c.parser.Next(b, wsproto.Limits{Message: maxMessage})
	switch {
	case err != nil:
		c.fail(fmt.Errorf("the server broke the WebSocket protocol: %w", err))
		return 0
	case n == 0:
		c.need = c.parser.Need()
		return 0
	}
	c.t.count.Frames++
	if !done {
		c.fragmented = true
		return n
	}
	switch m.Op {
	case wsproto.OpPing:
		c.send(wsproto.OpPong, m.Payload)
	case wsproto.OpPong:
	case wsproto.OpClose:
		c.fail(fmt.Errorf("the server closed the connection with code %d %s", m.Code, bytes.TrimSpace(m.Payload)))
	default:
		if m.Compressed {
			c.t.count.Compressed++
			if m.Payload, err = c.t.inflated.text(m.Op, m.Payload); err != nil {
				c.fail(fmt.Errorf("the server broke the WebSocket protocol: %w", err))
				return 0
			}
		}
		c.t.driver.Message(c, m.Payload)
	}
	return n
}

// deliver counts the events in b, and reports whether there are any.
func (c *Conn) deliver(b []byte) bool {
	t := c.t
	any := false
	for {
		due, rest, ok := nextStamp(b)
		if !ok {
			return any
		}
		any, b = true, rest
		if t.cfg.Numbered {
			c.follow(due, rest)
		}
		switch {
		case due < t.phase:
			t.count.Stale++
			continue
		case c.slow:
			t.count.SlowDeliveries++
			continue
		}
		t.count.Deliveries++
		t.hists[Delivery].Record(t.now - due)
		c.received++
		if due < c.lastDue && t.cfg.PerClient == 1 {
			t.count.Disorder++
		}
		c.lastDue = due
	}
}

// answer counts the response to a request, or a confirmation while the connection opens.
func (c *Conn) answer(id uint64, ok bool) {
	t := c.t
	if c.state == stateOpening {
		if !ok {
			c.fail(errors.New("the server rejected a subscription"))
			return
		}
		if c.pending--; c.pending == 0 {
			c.becomeReady()
		} else if c.unasked > 0 && c.pending-c.unasked <= openWindow/2 {
			c.askMore()
		}
		return
	}
	if id < idReserved {
		return
	}
	kind, due := t.requestOf(id)
	c.answered(kind, due, ok)
}

// askMore sends further subscriptions, until as many are in flight as may be.
func (c *Conn) askMore() {
	t := c.t
	t.topics = t.cfg.TopicsOf(t.topics[:0], int(c.index))
	rest := t.topics[len(t.topics)-int(c.unasked):]
	rest = rest[:min(len(rest), openWindow-int(c.pending-c.unasked))]
	c.unasked -= int32(len(rest))
	t.driver.(subscriber).More(c, rest)
}

// answered counts the response to a request that was due at a time.
func (c *Conn) answered(kind Kind, due int64, ok bool) {
	t := c.t
	t.count.Answers++
	t.count.Waiting--
	c.waiting--
	if ok && kind < Kinds {
		t.hists[kind].Record(t.now - due)
	} else {
		t.count.Errors++
	}
	if t.load != nil {
		t.load.grant(c)
	}
}

// response handles an HTTP response at the beginning of b and returns its
// length, or 0 if it is not complete.
func (c *Conn) response(b []byte) int {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		return 0
	}
	head, body := b[:end], 0
	for len(head) > 0 {
		var line []byte
		line, head, _ = bytes.Cut(head, crlf)
		if len(line) > 15 && bytes.EqualFold(line[:15], []byte("content-length:")) {
			n, err := strconv.Atoi(string(bytes.TrimSpace(line[15:])))
			if err != nil || n < 0 || n > maxMessage {
				c.fail(errors.New("the response has a malformed length"))
				return 0
			}
			body = n
		}
	}
	n := end + 4 + body
	if len(b) < n {
		c.need = n
		return 0
	}
	c.t.count.Frames++
	c.answered(Get, c.due, bytes.HasPrefix(b, []byte("HTTP/1.1 200")))
	return n
}

func (c *Conn) sendText(s string) {
	b := append(c.t.scratch[:0], s...)
	c.send(wsproto.OpText, b)
	c.t.scratch = b
}

// send sends a message or control frame.
func (c *Conn) send(op wsproto.Op, payload []byte) {
	c.t.wire = wsproto.AppendMaskedFrame(c.t.wire[:0], true, op, payload, c.t.nextKey())
	c.write(c.t.wire)
}

// write sends bytes, through TLS if the connection has it.
func (c *Conn) write(b []byte) {
	if c.fd < 0 {
		return
	}
	if c.secure != nil {
		c.secure.write(c, b)
		return
	}
	c.writeRaw(b)
}

// writeRaw writes to the socket. What the socket does not take goes to the write queue.
func (c *Conn) writeRaw(b []byte) {
	if len(c.out) == 0 {
		n, err := writeSocket(c.fd, b)
		if err != nil && err != unix.EAGAIN {
			c.fail(err)
			return
		}
		b = b[max(n, 0):]
	}
	c.out = append(c.out, b...)
}

// writable drains the write queue.
func (c *Conn) writable() {
	if len(c.out) == 0 {
		return
	}
	n, err := writeSocket(c.fd, c.out)
	if err != nil && err != unix.EAGAIN {
		c.fail(err)
		return
	}
	if n = max(n, 0); n == len(c.out) {
		c.out = nil
	} else {
		c.out = c.out[n:]
	}
}

// fail closes the connection because of err, and counts it as closed or failed.
func (c *Conn) fail(err error) {
	t := c.t
	if c.fd < 0 {
		return
	}
	switch {
	case c.state == stateReady:
		t.count.Closed++
	default:
		t.count.Failed++
		t.opening--
	}
	if errors.Is(err, unix.ECONNREFUSED) {
		t.count.Refused++
	}
	if t.count.LastError == "" {
		t.count.LastError = err.Error()
	}
	t.count.Unanswered += int64(c.waiting)
	c.drop()
	t.comeBack(c)
}

// drop closes the socket with a reset, so that thousands of closed connections do not keep
// their ports in TIME_WAIT.
func (c *Conn) drop() {
	t := c.t
	if c.fd < 0 {
		return
	}
	if c.state == stateSecuring { // the handshake's goroutine owns the socket: it fails, and then drops the connection
		_ = unix.Shutdown(int(c.fd), unix.SHUT_RDWR)
		return
	}
	if c.state == stateReady {
		t.count.Ready--
		if c.slow {
			t.count.Slow--
		}
	}
	c.parser.Reset() // returns its buffer
	_ = unix.SetsockoptLinger(int(c.fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	_ = unix.Close(int(c.fd))
	t.count.Open--
	t.count.Waiting -= int64(c.waiting)
	*c = Conn{t: t, slot: c.slot, index: c.index, fd: -1, slow: c.slow, kept: c.kept}
}
