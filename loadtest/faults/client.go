//go:build linux

package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"sluice/internal/resmodel"
	"sluice/loadtest/wire"
	"sluice/wsproto"
)

// dialect is what a gateway's clients speak. It holds what one client has received.
type dialect interface {
	path() string
	// hello returns the client's first message.
	hello() string
	// subscribe, call and state return a request: to subscribe, to call, and for the 16 KB of the
	// first topic.
	subscribe(id int, name string) string
	call(id int) string
	state(id int) string
	// received folds a message. It returns the responses in it, as errors or "", by ID, and what
	// to send in return, or "".
	received(text string) (responses map[int]string, reply string, err error)
	// value returns the client's state of a topic.
	value(name string) string
}

// res is the dialect of RES gateways: a strict client library.
type res struct{ view *resmodel.View }

func (d res) path() string { return "/" }
func (d res) request(id int, method string) string {
	m := fmt.Sprintf(`{"id":%d,"method":"%s"}`, id, method)
	d.view.Sent(m)
	return m
}
func (d res) hello() string {
	const m = `{"id":1,"method":"version","params":{"protocol":"1.2.3"}}`
	d.view.Sent(m)
	return m
}
func (d res) subscribe(id int, name string) string { return d.request(id, "subscribe."+name) }
func (d res) call(id int) string                   { return d.request(id, "call.load.t0.echo") }
func (d res) state(id int) string                  { return d.request(id, "get.load.t0") }
func (d res) value(name string) string             { v, _ := d.view.Value(name); return v }
func (d res) received(text string) (map[int]string, string, error) {
	if err := d.view.Received(text); err != nil {
		return nil, "", err
	}
	var m struct {
		ID    int
		Error *struct{ Code, Message string }
	}
	if strings.HasPrefix(text, `{"event"`) || json.Unmarshal([]byte(text), &m) != nil || m.ID == 0 {
		return nil, "", nil
	}
	verdict := ""
	if m.Error != nil {
		verdict = m.Error.Code + ": " + m.Error.Message
	}
	return map[int]string{m.ID: verdict}, "", nil
}

// centrifuge is the dialect of Centrifugo: JSON, with states as publications.
type centrifuge struct{ values map[string]string }

func (d centrifuge) path() string  { return "/connection/websocket" }
func (d centrifuge) hello() string { return `{"id":1,"connect":{}}` }
func (d centrifuge) subscribe(id int, name string) string {
	d.values[fmt.Sprint(id)] = name // until the reply
	return fmt.Sprintf(`{"id":%d,"subscribe":{"channel":"%s"}}`, id, name)
}
func (d centrifuge) call(id int) string {
	return fmt.Sprintf(`{"id":%d,"rpc":{"method":"echo","data":{}}}`, id)
}
func (d centrifuge) state(id int) string {
	return fmt.Sprintf(`{"id":%d,"rpc":{"method":"state","data":{}}}`, id)
}
func (d centrifuge) value(name string) string { return d.values[name] }
func (d centrifuge) received(text string) (map[int]string, string, error) {
	all, reply := map[int]string{}, ""
	for line := range strings.Lines(text) {
		var m struct {
			ID        int
			Error     *struct{ Message string }
			Subscribe *struct{ Data json.RawMessage }
			Push      *struct {
				Channel string
				Pub     *struct{ Data json.RawMessage }
			}
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			return nil, "", err
		}
		var err error
		switch {
		case m.Push != nil && m.Push.Pub != nil:
			err = d.hold(m.Push.Channel, m.Push.Pub.Data)
		case m.ID != 0:
			all[m.ID] = ""
			if m.Error != nil {
				all[m.ID] = m.Error.Message
			}
			if m.Subscribe != nil && len(m.Subscribe.Data) > 0 {
				err = d.hold(d.values[fmt.Sprint(m.ID)], m.Subscribe.Data)
			}
		case m.Push == nil:
			reply = "{}" // the answer to a ping
		}
		if err != nil {
			return nil, "", err
		}
	}
	return all, reply, nil
}

func (d centrifuge) hold(name string, data json.RawMessage) error {
	v, err := resmodel.Decode(string(data))
	d.values[name] = resmodel.Encode(v)
	return err
}

// client is one client. Its methods may be called from any goroutine.
type client struct {
	topic string
	wire  *wire.Conn

	mu      sync.Mutex // also orders what is sent
	speaks  dialect
	id      int
	waits   map[int]chan string // for responses
	paused  bool                // it reads nothing
	code    int                 // why it ended
	broken  error               // a message that a strict client cannot follow
	ended   chan struct{}
	stopped chan struct{}
}

// connect opens a client's connection and says hello.
func connect(ctx context.Context, addr string, speaks dialect, small bool) (*client, error) {
	d := net.Dialer{Timeout: limit}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if small {
		wire.Shrink(conn)
	}
	w, err := wire.Upgrade(conn, wire.Options{Path: speaks.path(), Key: 7, Limit: 2 * largeBytes})
	if err != nil {
		return nil, err
	}
	c := &client{wire: w, speaks: speaks, id: 1, waits: map[int]chan string{}, ended: make(chan struct{}), stopped: make(chan struct{})}
	frames := make(chan wire.Frame)
	go w.Receive(frames, c.stopped)
	go c.read(frames)
	return c, c.wire.Send(wsproto.OpText, speaks.hello())
}

// read handles frames until the connection ends.
func (c *client) read(frames <-chan wire.Frame) {
	defer close(c.ended)
	defer wire.Reset(c.wire.Conn)
	for {
		c.mu.Lock()
		paused := c.paused
		c.mu.Unlock()
		if paused {
			<-c.stopped
			return
		}
		select {
		case f := <-frames:
			if !c.take(f) {
				return
			}
		case <-c.stopped:
			return
		}
	}
}

// take handles a frame; it returns false at the end.
func (c *client) take(f wire.Frame) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch f.Op {
	case wsproto.OpPing:
		return c.wire.Send(wsproto.OpPong, f.Text) == nil
	case wsproto.OpPong:
		return true
	case wsproto.OpClose:
		c.code = f.Code
		return false
	}
	responses, reply, err := c.speaks.received(f.Text)
	if err != nil {
		c.broken = err
		return false
	}
	for id, r := range responses {
		if ch := c.waits[id]; ch != nil {
			ch <- r // it has room
			delete(c.waits, id)
		}
	}
	return reply == "" || c.wire.Send(wsproto.OpText, reply) == nil
}

// errClosed is the result of a request on a connection that has ended.
var errClosed = errors.New("the connection was closed")

// request sends a request that make returns, and waits for the response.
func (c *client) request(build func(id int) string, within time.Duration) error {
	answer := make(chan string, 1)
	c.mu.Lock()
	c.id++
	c.waits[c.id] = answer
	err := c.wire.Send(wsproto.OpText, build(c.id))
	c.mu.Unlock()
	if err != nil {
		return errClosed
	}
	select {
	case text := <-answer:
		if text != "" {
			return errors.New(text)
		}
		return nil
	case <-c.ended:
		return errClosed
	case <-time.After(within):
		return fmt.Errorf("no response within %v", within)
	}
}

// subscribe subscribes to a topic and waits for its state.
func (c *client) subscribe(name string, within time.Duration) error {
	c.topic = name
	return c.request(func(id int) string { return c.speaks.subscribe(id, name) }, within)
}

// call makes a call.
func (c *client) call(within time.Duration) error { return c.request(c.speaks.call, within) }

// holds returns the client's state of its topic.
func (c *client) holds() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.speaks.value(c.topic)
}

// closed reports whether the connection has ended, with which code, and what of the protocol the
// gateway broke.
func (c *client) closed() (ended bool, code int, broken error) {
	select {
	case <-c.ended:
	default:
		return false, 0, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return true, c.code, c.broken
}

// pause lets the client read nothing from now on.
func (c *client) pause() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.paused = true
}

// leave ends the client.
func (c *client) leave() {
	close(c.stopped)
	wire.Reset(c.wire.Conn)
	<-c.ended
}
