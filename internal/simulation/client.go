package simulation

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"sluice/wsproto"
)

// client is a WebSocket client.
type client struct {
	follower
	shaken  bool   // the handshake is over
	message []byte // of frames so far

	nextID int
	about  map[int]string   // the resources of the requests in order
	order  map[string][]int // requests about a resource that are answered in their order
}

// connect connects the client, and reconnects it.
func (c *client) connect() {
	c.closed = func() {
		if !c.stalls {
			c.w.failf("%s is closed by the gateway", c.name)
		}
		c.gone()
	}
	c.forget()
	c.shaken, c.message = false, nil
	c.order, c.about = map[string][]int{}, map[int]string{}
	c.open()
	c.out = append(c.out, "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"...)
	c.request("version", `{"protocol":"`+c.version+`"}`)
}

// request makes a request. params is JSON; empty: there are none.
func (c *client) request(method, params string) {
	c.nextID++
	id := strconv.Itoa(c.nextID)
	c.view.Requested(id, method, []byte(params))
	if params != "" {
		params = `,"params":` + params
	}
	m := `{"id":` + id + `,"method":"` + method + `"` + params + `}`
	if kind, rid, _ := strings.Cut(method, "."); kind == "subscribe" || kind == "get" || kind == "unsubscribe" {
		c.order[rid] = append(c.order[rid], c.nextID)
		c.about[c.nextID] = rid
	}
	c.w.note(c.name, " > ", m)
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
		c.request("call."+pickOf(&w.chooser, w.pool[:6])+".pick", fmt.Sprintf(`{"n":%d}`, w.calls))
	case n < 21:
		w.calls++
		c.request("auth."+pickOf(&w.chooser, w.pool[:6])+".login", fmt.Sprintf(`{"n":%d}`, w.calls))
	case n < 22:
		c.leave()
	default:
		c.stall(n < 23)
	}
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
	c.follow(m, c.view.Received)
	c.answered()
}

// answered checks that the requests about a resource are answered in their order.
func (c *client) answered() {
	id, _ := strconv.Atoi(c.view.Responded())
	rid, ok := c.about[id]
	if !ok {
		return
	}
	delete(c.about, id)
	if first := c.order[rid][0]; first != id {
		c.w.failf("%s gets response %d about %s before %d", c.name, id, rid, first)
	}
	c.order[rid] = c.order[rid][1:]
}

// check compares the client's view with the services' state.
func (c *client) check() error {
	if err := c.follower.check(); err != nil {
		return err
	}
	if c.view.Pending() > 0 {
		return fmt.Errorf("%s: requests without a response: %s", c.name, c.view.Open())
	}
	return nil
}
