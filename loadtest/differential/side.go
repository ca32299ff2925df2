//go:build linux

package differential

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sluice/internal/resmodel"
	"sluice/loadtest/wire"
	"sluice/wsproto"
)

const (
	settleFor   = 15 * time.Millisecond // without a message on either side: the step is over
	settleLimit = 20 * time.Second
	messageMax  = 16 << 20
)

// side is one gateway in a conversation: two clients of it, and a service behind it.
type side struct {
	addr    string
	name    string // of the service
	world   *world
	clients [2]*client
	http    *http.Client
	ids     int
}

// client is a WebSocket client.
type client struct {
	conn *wire.Conn
	stop chan struct{}
	done chan struct{}
	view *resmodel.View // of the conversation's goroutine

	mu       sync.Mutex
	received []string
	last     time.Time
	ended    string // how the connection ended; empty: it is open
}

// newSide connects the clients and the service of a conversation.
func newSide(addr, natsURL, name string) (*side, error) {
	s := &side{addr: addr, name: name, http: &http.Client{Timeout: settleLimit, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	var err error
	if s.world, err = newWorld(natsURL, name); err != nil {
		return nil, err
	}
	for i := range s.clients {
		if s.clients[i], err = dial(addr); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	return s, nil
}

func dial(addr string) (*client, error) {
	conn, err := net.DialTimeout("tcp", addr, settleLimit)
	if err != nil {
		return nil, err
	}
	ws, err := wire.Upgrade(conn, wire.Options{Limit: messageMax})
	if err != nil {
		return nil, err
	}
	c := &client{conn: ws, stop: make(chan struct{}), done: make(chan struct{}), view: resmodel.NewView(), last: time.Now()}
	c.view.State("")
	frames := make(chan wire.Frame)
	go func() {
		ws.Receive(frames, c.stop)
		close(frames)
	}()
	go func() {
		defer close(c.done)
		for f := range frames {
			c.take(f)
		}
	}()
	return c, nil
}

func (c *client) take(f wire.Frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = time.Now()
	switch f.Op {
	case wsproto.OpText, wsproto.OpBinary:
		c.received = append(c.received, f.Text)
	case wsproto.OpClose:
		c.ended = "closed with " + strconv.Itoa(f.Code)
	}
}

// Outcome is what a step led to at one gateway, normalised: for each client the responses, by
// request ID, and the events, by resource; for an HTTP request the response.
type Outcome struct {
	Clients [2]Received
	HTTP    []string
}

// Received is what one client received.
type Received struct {
	Responses []string            // sorted
	Events    map[string][]string // by resource, in order
	Other     []string            // neither
	Broken    string              // what a client library cannot make sense of
	Held      []string            // resources that it holds
	Stale     []string            // of these, those that the service has in another state
	Ended     string
}

// do does a step and waits until nothing more comes of it.
func (s *side) do(step Step) (o Outcome, err error) {
	switch {
	case step.HTTP != nil:
		o.HTTP, err = s.exchange(step.HTTP)
	case step.Client < 0:
		err = s.world.act(step)
	default:
		if c := s.clients[step.Client]; c.open() {
			s.ids++
			text := strings.NewReplacer("{id}", strconv.Itoa(s.ids), service, s.name).Replace(step.Text)
			c.view.Sent(text)
			err = c.conn.Send(wsproto.OpText, text)
		}
	}
	if err != nil {
		return o, err
	}
	if err := s.settle(); err != nil {
		return o, err
	}
	for i, c := range s.clients {
		o.Clients[i] = s.normalise(c)
	}
	return o, nil
}

// fences are how many calls each client makes one after the other before a step is over. A reply
// comes after the events, and the replies to the requests, that were in flight before: one call for
// a reset and one for each level of references in what it brings.
const fences = 6

// fenceID is the request ID of these calls.
const fenceID = "4000000000"

// settle waits until nothing more comes of a step.
func (s *side) settle() error {
	for range fences {
		if err := s.fence(); err != nil {
			return err
		}
	}
	return s.rest()
}

// fence makes a call from each client that is connected, and waits for the responses.
func (s *side) fence() error {
	var waits []*client
	for _, c := range s.clients {
		if !c.open() {
			continue
		}
		if err := c.conn.Send(wsproto.OpText, `{"id":`+fenceID+`,"method":"call.`+s.name+`.fence.echo"}`); err != nil {
			continue // the connection has just ended
		}
		waits = append(waits, c)
	}
	for end := time.Now().Add(settleLimit); len(waits) > 0; {
		waits = slices.DeleteFunc(waits, (*client).passed)
		if time.Now().After(end) {
			return errors.New("a call got no response")
		}
		pause(time.Millisecond)
	}
	return nil
}

// passed reports whether a fence has its response, or never will.
func (c *client) passed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, text := range c.received {
		if strings.Contains(text, `"id":`+fenceID) {
			c.received = slices.Delete(c.received, i, i+1)
			return true
		}
	}
	return c.ended != ""
}

// rest waits until clients and service are quiet.
func (s *side) rest() error {
	for end := time.Now().Add(settleLimit); ; {
		quiet := s.world.quiet(settleFor)
		for _, c := range s.clients {
			quiet = quiet && c.quiet(settleFor)
		}
		if quiet {
			return nil
		}
		if time.Now().After(end) {
			return errors.New("the conversation does not come to rest")
		}
		pause(settleFor / 3)
	}
}

func pause(d time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	<-ctx.Done()
}

func (c *client) quiet(d time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Since(c.last) >= d
}

func (c *client) open() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = time.Now() // it is about to send
	return c.ended == ""
}

// normalise takes what a client has received since the last step.
func (s *side) normalise(c *client) Received {
	c.mu.Lock()
	received := c.received
	c.received = nil
	r := Received{Events: map[string][]string{}, Ended: c.ended}
	c.mu.Unlock()
	for _, text := range received {
		var m struct {
			Event string
			ID    json.RawMessage
			Error json.RawMessage
		}
		if err := json.Unmarshal([]byte(text), &m); err != nil {
			r.Other = append(r.Other, text)
			continue
		}
		if len(m.ID) == 0 || m.ID[0] >= '0' && m.ID[0] <= '9' && !strings.Contains(string(m.ID), ".") {
			if err := c.view.Received(text); err != nil && r.Broken == "" {
				r.Broken = strings.ReplaceAll(err.Error(), s.name, service)
			}
		}
		text = s.canonical(text)
		switch {
		case m.Event != "":
			rid := m.Event[:max(strings.LastIndexByte(m.Event, '.'), 0)]
			rid = strings.ReplaceAll(rid, s.name, service)
			r.Events[rid] = append(r.Events[rid], text)
		case m.ID != nil || m.Error != nil:
			r.Responses = append(r.Responses, text)
		default:
			r.Other = append(r.Other, text)
		}
	}
	slices.Sort(r.Responses)
	for _, rid := range c.view.Held() {
		r.Held = append(r.Held, strings.ReplaceAll(rid, s.name, service))
		if s.stale(c, rid) {
			r.Stale = append(r.Stale, strings.ReplaceAll(rid, s.name, service))
		}
	}
	return r
}

// stale reports whether a client holds a resource in a state that is not the service's, in the form
// for older or for newer clients.
func (s *side) stale(c *client, rid string) bool {
	held, _ := c.view.Value(rid)
	if c.view.Failed(rid) || c.view.Deleted(rid) {
		return false
	}
	value, ok := s.world.value(rid)
	return ok && held != resmodel.Encode(resmodel.AsSeenBy(value, "1.1.1")) && held != resmodel.Encode(resmodel.AsSeenBy(value, "1.2.3"))
}

// canonical returns JSON with sorted keys, and without what differs between sides by nature.
func (s *side) canonical(text string) string {
	if v, err := resmodel.Decode(text); err == nil {
		text = resmodel.Encode(v)
	}
	return strings.ReplaceAll(text, s.name, service)
}

// compared are the header fields of responses that must agree.
var compared = []string{"Content-Type", "Location", "Allow", "Access-Control-Allow-Origin", "Access-Control-Allow-Methods", "Access-Control-Allow-Headers", "Access-Control-Allow-Credentials", "Vary"}

// exchange makes an HTTP request.
func (s *side) exchange(e *Exchange) ([]string, error) {
	r, err := http.NewRequest(e.Method, "http://"+s.addr+strings.ReplaceAll(e.Path, service, s.name), strings.NewReader(e.Body))
	if err != nil {
		return nil, err
	}
	for k, v := range e.Header {
		r.Header.Set(k, v)
	}
	response, err := s.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, messageMax))
	if err != nil {
		return nil, err
	}
	lines := []string{fmt.Sprint(response.StatusCode)}
	for _, k := range compared {
		if v := response.Header.Get(k); v != "" {
			lines = append(lines, k+": "+strings.ReplaceAll(v, s.name, service))
		}
	}
	return append(lines, s.canonical(string(body))), nil
}

func (s *side) close() error {
	s.http.CloseIdleConnections()
	for _, c := range s.clients {
		if c != nil {
			close(c.stop)
			wire.Reset(c.conn.Conn)
			<-c.done
		}
	}
	return s.world.close()
}
