//go:build linux

package soak

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"sluice/loadtest/soak/service"
	"sluice/wsproto"
)

const (
	maxMessage  = 16 << 20 // bytes of a message from the gateway
	slowBuffer  = 64 << 10 // bytes of a slow client's receive buffer
	writeLimit  = patience
	actInterval = time.Second
)

// frame is a message or control frame from the gateway, or the end of the connection.
type frame struct {
	op   wsproto.Op
	text string
	code int // of a close frame; 1006 for an end without one
}

// cutCode stands for the end of a connection without a close frame (RFC 6455 section 7.1.5).
const cutCode = 1006

// wire is a WebSocket connection. The client's goroutine writes, another reads.
type wire struct {
	net.Conn
	rest    []byte // what came with the response to the upgrade
	deflate bool
	out     []byte
	key     uint32
}

// upgrade opens a WebSocket.
func (c *client) upgrade(ctx context.Context) (*wire, error) {
	conn, err := c.env.gateways[c.gateway].dial(ctx)
	if err != nil {
		return nil, err
	}
	if c.slow {
		shrink(conn)
	}
	extensions := ""
	if c.rng.IntN(4) == 0 {
		extensions = "Sec-WebSocket-Extensions: " + wsproto.DeflateOffer + "\r\n"
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: soak\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"+extensions+"\r\n")
	var head []byte
	for err == nil {
		buf := make([]byte, 4<<10)
		var n int
		n, err = conn.Read(buf)
		head = append(head, buf[:n]...)
		if before, after, ok := strings.Cut(string(head), "\r\n\r\n"); ok {
			if !strings.HasPrefix(before, "HTTP/1.1 101") {
				err = fmt.Errorf("upgrade refused: %.40s", before)
				break
			}
			_ = conn.SetDeadline(time.Time{})
			return &wire{Conn: conn, rest: []byte(after), deflate: strings.Contains(strings.ToLower(before), "permessage-deflate"), key: c.rng.Uint32()}, nil
		}
	}
	reset(conn)
	return nil, err
}

// shrink gives a connection a small receive buffer.
func shrink(c net.Conn) {
	if raw, err := c.(syscall.Conn).SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, slowBuffer)
		})
	}
}

// receive passes on what the gateway sends, until the end or until stop is closed. It does not read
// on before a frame is taken, so a client that takes none is a slow reader.
func (w *wire) receive(out chan<- frame, stop <-chan struct{}) {
	var p wsproto.Parser
	p.FromServer()
	if w.deflate {
		p.EnableDeflate()
	}
	defer p.Reset()
	give := func(f frame) bool {
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
			m, n, done, err := p.Next(buf[:have], wsproto.Limits{Message: maxMessage})
			if err != nil {
				give(frame{op: wsproto.OpClose, code: -1, text: err.Error()})
				return
			}
			if done && !give(frame{op: m.Op, text: string(m.Payload), code: int(m.Code)}) {
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
			give(frame{op: wsproto.OpClose, code: cutCode, text: err.Error()})
			return
		}
	}
}

// send sends a frame.
func (w *wire) send(op wsproto.Op, payload string) error {
	var key [4]byte
	w.key = w.key*1664525 + 1013904223
	binary.LittleEndian.PutUint32(key[:], w.key)
	w.out = wsproto.AppendMaskedFrame(w.out[:0], true, op, []byte(payload), key)
	_ = w.SetWriteDeadline(time.Now().Add(writeLimit))
	_, err := w.Write(w.out)
	return err
}

// sockets is the WebSocket of a client and what waits for its responses.
type sockets struct {
	*client
	wire *wire
}

// socket lives as a WebSocket client until the connection ends.
func (c *client) socket(ctx context.Context) {
	w, err := c.upgrade(ctx)
	if err != nil {
		return
	}
	c.env.journal.connects.Add(1)
	defer reset(raw(w.Conn))
	frames, stop := make(chan frame), make(chan struct{})
	defer close(stop)
	go w.receive(frames, stop)
	s := sockets{c, w}
	if s.request("version", `{"protocol":"`+c.version+`"}`) != nil {
		return
	}
	for _, rid := range c.wants {
		if s.request("subscribe."+rid, "") != nil {
			return
		}
	}
	timer := time.NewTimer(actInterval)
	defer timer.Stop()
	for {
		from := frames
		if c.slow && time.Now().UnixNano() < c.env.still.Load() {
			from, c.lastRead = nil, time.Now()
		}
		select {
		case f := <-from:
			if !s.take(f) {
				return
			}
		case <-timer.C:
			if !s.act() {
				return
			}
			timer.Reset(time.Duration(float64(actInterval) * (0.5 + s.rng.Float64())))
		case <-ctx.Done():
			return
		}
	}
}

// raw returns the TCP connection of a connection.
func raw(c net.Conn) net.Conn {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		return t.NetConn()
	}
	return c
}

// request sends a request.
func (s sockets) request(method, params string) error {
	s.nextID++
	m := fmt.Sprintf(`{"id":%d,"method":"%s"`, s.nextID, method)
	if params != "" {
		m += `,"params":` + params
	}
	m += "}"
	s.view.Sent(m)
	s.note("> " + m)
	s.env.journal.requests.Add(1)
	return s.wire.send(wsproto.OpText, m)
}

// take handles a frame. It returns false at the end of the connection.
func (s sockets) take(f frame) bool {
	switch f.op {
	case wsproto.OpPing:
		return s.wire.send(wsproto.OpPong, f.text) == nil
	case wsproto.OpPong:
		return true
	case wsproto.OpClose:
		if f.code < 0 {
			s.fail("the gateway broke the WebSocket protocol: %s", f.text)
		}
		if f.code != cutCode {
			var code [2]byte
			binary.BigEndian.PutUint16(code[:], uint16(f.code))
			_ = s.wire.send(wsproto.OpClose, string(code[:]))
		}
		s.env.journal.closed(kindNames[s.kind], closing{gateway: s.gateway, code: f.code, opened: s.opened, closed: time.Now(), who: s.name(), slow: s.slow})
		return false
	}
	if !s.fold(f.text, s.view.Received) {
		return false
	}
	if !strings.HasPrefix(f.text, `{"event":"`) {
		s.response(f.text)
	}
	return true
}

// response handles what a response means beyond the view.
func (s sockets) response(m string) {
	var r struct {
		ID     int
		Error  *struct{ Code string }
		Result struct{ Payload json.RawMessage }
	}
	if json.Unmarshal([]byte(m), &r) != nil {
		return
	}
	if r.Error != nil {
		s.env.journal.errors.Add(1)
	}
	if n, ok := s.pending[r.ID]; ok {
		delete(s.pending, r.ID)
		var got service.Call
		if r.Error == nil && (json.Unmarshal(r.Result.Payload, &got) != nil || got != service.Call{Client: s.id, N: n}) {
			s.fail("call %d got the result %s", n, r.Result.Payload)
		}
	}
	if !s.complete && s.view.Pending() == 0 {
		s.setComplete(true)
	}
}

// act does what is due, and perhaps something random. It returns false to end the connection.
func (s sockets) act() bool {
	err := s.want()
	switch phase(s.env.phase.Load()) {
	case acting:
		if err == nil {
			err = s.random()
		}
	case calm:
		if r := s.env.round.Load(); r != nil {
			waits := ""
			if s.view.Pending() > 0 {
				waits = "requests without a response: " + s.view.Open()
			}
			s.judge(r, waits, s.compare)
		}
		if err == nil {
			err = s.cure()
		}
	case leaving:
		_ = s.wire.send(wsproto.OpClose, "\x03\xe8")
		return false
	}
	return err == nil
}

// want subscribes again to what the client wants and has no subscription to.
func (s sockets) want() error {
	subscribed := s.view.Subscribed()
	for _, rid := range s.wants {
		if slices.Contains(subscribed, rid) || s.view.Asked(rid) > 0 || time.Now().Before(s.retry[rid]) {
			continue
		}
		s.retry[rid] = time.Now().Add(time.Duration(1000+s.rng.IntN(2000)) * time.Millisecond)
		delete(s.feeds, rid)
		if err := s.request("subscribe."+rid, ""); err != nil {
			return err
		}
	}
	return nil
}

var errLeft = errors.New("the client leaves")

// random does one of the things that clients do, once in a while.
func (s sockets) random() error {
	if n := s.env.storm.Load(); n != s.stormed {
		if s.stormed = n; s.rng.IntN(2) == 0 {
			return errLeft
		}
	}
	switch n := s.rng.IntN(1000); {
	case n < 40: // want something else
		i := 1 + s.rng.IntN(len(s.wants)-1)
		old := s.wants[i]
		s.wants[i] = s.anything()
		if slices.Contains(s.view.Subscribed(), old) && !slices.Contains(s.wants, old) {
			return s.request("unsubscribe."+old, "")
		}
	case n < 60:
		return s.request("get."+s.anything(), "")
	case n < 110:
		if len(s.pending) == 0 {
			s.called++
			b, err := json.Marshal(service.Call{Client: s.id, N: s.called})
			if err != nil {
				panic(err)
			}
			s.pending[s.nextID+1] = s.called
			return s.request("call."+service.Counter(s.service())+".add", string(b))
		}
	case n < 115: // leave without a word
		return errLeft
	case n < 120: // leave as a browser does
		if err := s.wire.send(wsproto.OpClose, "\x03\xe9"); err != nil {
			return err
		}
		return errLeft
	}
	return nil
}

// cure tries again what the client holds an error of, because it was referred to when its service
// could not be reached. It is disappointed or gets it; a subscription for that ends afterwards.
func (s sockets) cure() error {
	r := s.env.round.Load()
	if r == nil || s.view.Pending() > 0 {
		return nil
	}
	subscribed := s.view.Subscribed()
	for _, rid := range subscribed {
		if !slices.Contains(s.wants, rid) {
			return s.request("unsubscribe."+rid, "")
		}
	}
	for _, rid := range s.view.Held() {
		if _, ok := r.truth.value(rid, s.version); !ok || !s.view.Failed(rid) || time.Now().Before(s.retry[rid]) {
			continue
		}
		if s.retry[rid] = time.Now().Add(3 * time.Second); r.truth.store.Denied(rid) {
			s.env.journal.reloads.Add(1)
			return errLeft // as a user does who reloads the page
		}
		return s.request([]string{"subscribe.", "get."}[s.rng.IntN(2)]+rid, "")
	}
	return nil
}
