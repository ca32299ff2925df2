package restest

import (
	"errors"
	"fmt"
	"slices"

	"sluice/internal/resmodel"
)

// sockets are the WebSocket clients of a session, by name.
type sockets struct {
	*shared
	clients map[string]*Client
	views   map[string]*resmodel.View // the state of each client after the messages that lines expected
	order   []string                  // client names, oldest first
	ended   map[string]bool           // clients whose end the transcript has expected
}

func newSockets(s *shared) *sockets {
	return &sockets{shared: s, clients: map[string]*Client{}, views: map[string]*resmodel.View{}, ended: map[string]bool{}}
}

// cut resets all connections.
func (s *sockets) cut() {
	for _, c := range s.clients {
		c.Cut()
	}
}

func (s *sockets) connect(name, version string) error {
	if s.clients[name] != nil && !s.ended[name] {
		return fmt.Errorf("client %s is connected", name)
	}
	c, err := Dial(name, s.gateway.URL(), s.notify)
	if err != nil {
		return err
	}
	return s.welcome(c, version)
}

// welcome assigns a new connection to the client's name, and sends the version.
func (s *sockets) welcome(c *Client, version string) error {
	name := c.Name
	s.order = slices.DeleteFunc(s.order, func(n string) bool { return n == name })
	s.clients[name], s.ended[name] = c, false
	s.order = append(s.order, name)
	delete(s.vars, "cid."+name)
	v := resmodel.NewView()
	s.views[name] = v
	if version == "raw" {
		v.State("")
		return nil
	}
	if version == "" {
		version = "1.2.3"
	}
	v.State(version)
	id := s.hiddenID()
	if err := c.Send(`{"id":` + id + `,"method":"version","params":{"protocol":"` + version + `"}}`); err != nil {
		return err
	}
	if !s.wait(func() bool { return c.answered(id) || s.gone(c) }) || s.gone(c) {
		return errors.New("no response to the version request")
	}
	return nil
}

// gone reports whether a client's connection has ended.
func (s *sockets) gone(c *Client) bool { _, closed := c.Closed(); return closed }

// receive expects a client's next message.
func (s *sockets) receive(c *Client) (string, error) {
	var m string
	var ok bool
	s.wait(func() bool { m, ok = c.Next(); return ok || s.gone(c) })
	if !ok {
		if m, ok = c.Next(); !ok {
			if code, closed := c.Closed(); closed {
				return "", fmt.Errorf("the connection was closed with %d", code)
			}
			return "", errors.New("no message was received")
		}
	}
	s.note("client %s < %s", c.Name, m)
	if err := s.views[c.Name].Received(m); err != nil {
		return "", fmt.Errorf("a client cannot follow: %w\ngot %s", err, m)
	}
	return m, nil
}

// send sends a message that a line of the transcript has.
func (s *sockets) send(c *Client, m string) error {
	s.note("client %s > %s", c.Name, m)
	s.views[c.Name].Sent(m)
	return c.Send(m)
}

func (s *sockets) closedWith(c *Client, want int) error {
	if !s.wait(func() bool { return s.gone(c) }) {
		return errors.New("the connection is still open")
	}
	if code, _ := c.Closed(); code != want {
		return fmt.Errorf("closed with %d, want %d", code, want)
	}
	return nil
}
