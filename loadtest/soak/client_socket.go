//go:build linux

package soak

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"sluice/loadtest/soak/service"
	"sluice/loadtest/wire"
	"sluice/wsproto"
)

const (
	maxMessage  = 16 << 20 // bytes of a message from the gateway
	actInterval = time.Second
)

// upgrade opens a WebSocket.
func (c *client) upgrade(ctx context.Context) (*wire.Conn, error) {
	conn, err := c.env.gateways[c.gateway].dial(ctx)
	if err != nil {
		return nil, err
	}
	if c.slow {
		wire.Shrink(conn)
	}
	return wire.Upgrade(conn, wire.Options{Deflate: c.rng.IntN(4) == 0, Key: c.rng.Uint32(), Limit: maxMessage})
}

// sockets is the WebSocket of a client and what waits for its responses.
type sockets struct {
	*client
	wire *wire.Conn
}

// socket lives as a WebSocket client until the connection ends.
func (c *client) socket(ctx context.Context) {
	w, err := c.upgrade(ctx)
	if err != nil {
		return
	}
	c.env.journal.connects.Add(1)
	defer wire.Reset(raw(w.Conn))
	frames, stop := make(chan wire.Frame), make(chan struct{})
	defer close(stop)
	go w.Receive(frames, stop)
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
	return s.wire.Send(wsproto.OpText, m)
}

// take handles a frame. It returns false at the end of the connection.
func (s sockets) take(f wire.Frame) bool {
	switch f.Op {
	case wsproto.OpPing:
		return s.wire.Send(wsproto.OpPong, f.Text) == nil
	case wsproto.OpPong:
		return true
	case wsproto.OpClose:
		if f.Code < 0 {
			s.fail("the gateway broke the WebSocket protocol: %s", f.Text)
		}
		if f.Code != wire.NoClose {
			var code [2]byte
			binary.BigEndian.PutUint16(code[:], uint16(f.Code))
			_ = s.wire.Send(wsproto.OpClose, string(code[:]))
		}
		s.env.journal.closed(kindNames[s.kind], closing{gateway: s.gateway, code: f.Code, opened: s.opened, closed: time.Now(), who: s.name(), slow: s.slow})
		return false
	}
	if !s.fold(f.Text, s.view.Received) {
		return false
	}
	if !strings.HasPrefix(f.Text, `{"event":"`) {
		s.response(f.Text)
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
		_ = s.wire.Send(wsproto.OpClose, "\x03\xe8")
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
		if err := s.wire.Send(wsproto.OpClose, "\x03\xe9"); err != nil {
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
