package simulation

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"

	"sluice/internal/resmodel"
	"sluice/netpoll"
	"sluice/wsproto"
)

// client is a WebSocket client. It is the netpoll.Socket of its connection.
type client struct {
	w       *world
	name    string
	version string
	loop    int
	serial  int // of its connections

	conn    *netpoll.DrivenConn // nil: not connected
	out     []byte              // on its way to the gateway
	in      []byte              // on its way from the gateway
	got     []byte              // read, and not complete
	room    int                 // bytes that in takes
	stalled bool                // does not read
	stalls  bool                // it has stalled on this connection
	shaken  bool                // the handshake is over
	message []byte              // of frames so far

	view   *resmodel.View
	nextID int
	about  map[int]string   // the resources of the requests in order
	order  map[string][]int // requests about a resource that are answered in their order
	ticks  map[string]int   // the last tick seen, of each resource that is held since
}

// connect connects the client, and reconnects it.
func (c *client) connect() {
	c.serial++
	c.out, c.in, c.got, c.message = nil, nil, nil, nil
	c.stalled, c.stalls, c.shaken = false, false, false
	c.view, c.ticks, c.order = resmodel.NewView(), map[string]int{}, map[string][]int{}
	c.about = map[int]string{}
	c.w.logf("%s connects", c.name)
	c.out = append(c.out, "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"...)
	c.conn = c.w.net4.Loops[c.loop].Open(c, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(c.loop)}), uint16(1024+c.serial)))
	c.request("version", `,"params":{"protocol":"`+c.version+`"}`)
}

// leave closes the connection without a word.
func (c *client) leave() {
	c.w.logf("%s leaves", c.name)
	conn := c.conn
	c.gone()
	conn.End()
}

func (c *client) gone() { c.conn, c.out, c.in, c.got = nil, nil, nil, nil }

// Write implements netpoll.Socket.
func (c *client) Write(b []byte) (n int, ok bool) {
	n = min(len(b), c.room-len(c.in))
	c.in = append(c.in, b[:n]...)
	return n, true
}

// Closed implements netpoll.Socket.
func (c *client) Closed() {
	if c.conn == nil {
		return
	}
	c.w.logf("%s is closed", c.name)
	if !c.stalls {
		c.w.failf("%s is closed by the gateway", c.name)
	}
	c.gone()
}

func (c *client) request(method, rest string) {
	c.nextID++
	m := fmt.Sprintf(`{"id":%d,"method":"%s"%s}`, c.nextID, method, rest)
	c.view.Sent(m)
	if kind, rid, _ := strings.Cut(method, "."); kind == "subscribe" || kind == "get" || kind == "unsubscribe" {
		c.order[rid] = append(c.order[rid], c.nextID)
		c.about[c.nextID] = rid
	}
	c.w.logf("%s > %s", c.name, m)
	c.out = wsproto.AppendMaskedFrame(c.out, true, wsproto.OpText, []byte(m), [4]byte{1, 2, 3, 4})
}

// act has the client do something of its own accord.
func (c *client) act() {
	w := c.w
	for range 1 + w.pick(3) {
		if c.conn != nil {
			c.ask()
		}
	}
}

// ask has the client make a request, or do something else.
func (c *client) ask() {
	w := c.w
	switch n := w.pick(24); {
	case n < 10:
		c.request("subscribe."+pickOf(&w.chooser, w.pool), "")
	case n < 16:
		direct := c.view.Subscribed()
		for _, rid := range w.pool {
			if c.view.Asked(rid) > 0 {
				direct = append(direct, rid)
			}
		}
		if len(direct) > 0 {
			c.request("unsubscribe."+pickOf(&w.chooser, direct), "")
		}
	case n < 18:
		c.request("get."+pickOf(&w.chooser, w.pool), "")
	case n < 20:
		w.calls++
		c.request("call."+pickOf(&w.chooser, w.pool[:6])+".pick", fmt.Sprintf(`,"params":{"n":%d}`, w.calls))
	case n < 21:
		w.calls++
		c.request("auth."+pickOf(&w.chooser, w.pool[:6])+".login", fmt.Sprintf(`,"params":{"n":%d}`, w.calls))
	case n < 22:
		c.leave()
	case n < 23:
		c.stalled, c.stalls = true, true
		w.logf("%s stalls", c.name)
	default:
		c.stalled = false
		w.logf("%s reads on", c.name)
	}
}

// deliver has the gateway read what the client has sent, or a part of it.
func (c *client) deliver() {
	n := len(c.out)
	if c.w.one(6) {
		n = 1 + c.w.pick(n)
	}
	b := c.out[:n]
	c.out = c.out[n:]
	c.conn.Receive(b)
}

// read has the client take what it has received.
func (c *client) read() {
	c.got = append(c.got, c.in...)
	c.in = c.in[:0]
	if !c.shaken {
		head, rest, ok := strings.Cut(string(c.got), "\r\n\r\n")
		if !ok {
			return
		}
		if !strings.HasPrefix(head, "HTTP/1.1 101 ") {
			c.w.failf("%s is refused: %s", c.name, head)
		}
		c.shaken, c.got = true, append(c.got[:0], rest...)
	}
	for c.conn != nil {
		op, fin, payload, n := frame(c.got)
		if n == 0 {
			return
		}
		payload = append([]byte(nil), payload...)
		c.got = c.got[:copy(c.got, c.got[n:])]
		switch op {
		case wsproto.OpText, wsproto.OpContinuation:
			if c.message = append(c.message, payload...); fin {
				c.received(string(c.message))
				c.message = c.message[:0]
			}
		case wsproto.OpPing:
			c.out = wsproto.AppendMaskedFrame(c.out, true, wsproto.OpPong, payload, [4]byte{1, 2, 3, 4})
		case wsproto.OpClose:
			if !c.stalls {
				c.w.failf("%s is closed with %q", c.name, payload)
			}
			c.leave()
		default:
			c.w.failf("%s receives a frame of kind %d", c.name, op)
		}
	}
}

// frame splits a server's first frame off; n is 0 if it is incomplete.
func frame(b []byte) (op wsproto.Op, fin bool, payload []byte, n int) {
	if len(b) < 2 {
		return 0, false, nil, 0
	}
	head, size := 2, int(b[1])
	switch size {
	case 126:
		if head = 4; len(b) >= head {
			size = int(binary.BigEndian.Uint16(b[2:]))
		}
	case 127:
		if head = 10; len(b) >= head {
			size = int(binary.BigEndian.Uint64(b[2:]))
		}
	}
	if len(b) < head || len(b) < head+size {
		return 0, false, nil, 0
	}
	return wsproto.Op(b[0] & 15), b[0]&128 != 0, b[head : head+size], head + size
}

// received folds a message.
func (c *client) received(m string) {
	c.w.logf("%s < %s", c.name, m)
	c.w.received++
	if err := c.view.Received(m); err != nil {
		c.w.failf("%s cannot follow: %v: %s", c.name, err, m)
	}
	c.answered(m)
	for rid := range c.ticks {
		if !c.view.Holds(rid) {
			delete(c.ticks, rid)
		}
	}
	if strings.Contains(m, `.tick"`) {
		c.tick(m)
	}
}

// answered checks that the requests about a resource are answered in their order.
func (c *client) answered(m string) {
	var r struct{ ID int }
	decode(m, &r)
	rid, ok := c.about[r.ID]
	if !ok {
		return
	}
	delete(c.about, r.ID)
	if first := c.order[rid][0]; first != r.ID {
		c.w.failf("%s gets response %d about %s before %d", c.name, r.ID, rid, first)
	}
	c.order[rid] = c.order[rid][1:]
}

// tick checks a custom event: each carries the number after that of the one before it.
func (c *client) tick(m string) {
	var e struct {
		Event string
		Data  json.Number
	}
	decode(m, &e)
	rid, ok := strings.CutSuffix(e.Event, ".tick")
	if !ok {
		return
	}
	n, err := e.Data.Int64()
	last, seen := c.ticks[rid]
	switch {
	case err != nil, seen && int(n) <= last:
		c.w.failf("%s gets tick %s of %s after %d", c.name, e.Data, rid, last)
	case seen && int(n) != last+1 && !c.w.lossy && !c.w.forgets:
		c.w.failf("%s gets tick %d of %s after %d: one is missing", c.name, n, rid, last)
	}
	c.ticks[rid] = int(n)
}

// check compares the client's view with the services' state.
func (c *client) check() error {
	for _, rid := range c.view.Held() {
		if c.view.Deleted(rid) {
			continue
		}
		want, ok := c.w.of(rid).store.Value(rid)
		got, _ := c.view.Value(rid)
		switch {
		case ok && c.view.Failed(rid) && strings.Contains(got, `"system.timeout"`) && c.w.busMetrics.Timeouts.Load() > 0:
			// It stays failed for the client, as a service was asked in vain.
		case ok && c.view.Failed(rid) && c.w.born[rid]:
		case ok && c.view.Failed(rid):
			return fmt.Errorf("%s: %s failed with %s, but it is there", c.name, rid, got)
		case !ok && !c.view.Failed(rid):
			return fmt.Errorf("%s: %s is %s, but it is not there", c.name, rid, got)
		case ok:
			if seen := resmodel.Encode(resmodel.AsSeenBy(want, c.version)); got != seen {
				return fmt.Errorf("%s: %s is %s, want %s", c.name, rid, got, seen)
			}
		}
	}
	for _, rid := range c.view.Subscribed() {
		if name, _, _ := strings.Cut(rid, "?"); c.w.of(rid).store.Denied(name) {
			return fmt.Errorf("%s: %s is subscribed, but access is denied", c.name, rid)
		}
	}
	if c.view.Pending() > 0 {
		return fmt.Errorf("%s: requests without a response: %s", c.name, c.view.Open())
	}
	return nil
}
