package simulation

import (
	"fmt"
	"strconv"
	"strings"
)

// stream is a client of server-sent events.
type stream struct {
	follower
	rid     string // of the request
	status  int    // of the response; 0: its head has not come
	begun   bool   // the resource has come
	over    bool   // the gateway has closed the connection; what is in it is still to be read
	expects bool   // the last message ends the stream
}

// act has the client begin a stream, or do something else.
func (s *stream) act() {
	w := s.w
	switch n := w.pick(8); {
	case s.over:
	case s.conn == nil:
		s.connect(pickOf(&w.chooser, w.pool))
	case n < 2:
		s.leave()
	case n < 5:
		s.stall(n < 3)
	}
}

func (s *stream) connect(rid string) {
	s.closed = func() { s.conn, s.out, s.over = nil, nil, true }
	s.forget()
	s.rid, s.status, s.begun, s.expects = rid, 0, false, false
	s.open()
	s.w.logf("%s > GET %s", s.name, target(rid))
	s.out = append(s.out, "GET "+target(rid)+" HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"...)
}

// read has the client take what it has received.
func (s *stream) read() {
	s.got = append(s.got, s.in...)
	s.in = s.in[:0]
	if s.status == 0 {
		head, rest, ok := strings.Cut(string(s.got), "\r\n\r\n")
		if ok {
			s.status, _ = strconv.Atoi(head[len("HTTP/1.1 "):][:3])
			s.got = append(s.got[:0], rest...)
			if !statuses[s.status] {
				s.w.failf("%s gets %s", s.name, head)
			}
		}
	}
	for s.status == 200 {
		event, rest, ok := strings.Cut(string(s.got), "\n\n")
		if !ok {
			break
		}
		s.got = append(s.got[:0], rest...)
		if data, ok := strings.CutPrefix(event, "data: "); ok {
			s.received(data)
		} else if event != ":" {
			s.w.failf("%s gets %q", s.name, event)
		}
	}
	if s.over {
		s.ended()
	}
}

func (s *stream) received(m string) {
	fold := s.view.Received
	if !s.begun {
		s.begun, fold = true, s.view.Begin
	}
	s.follow(m, fold)
	if s.expects = false; !strings.Contains(m, `.unsubscribe"`) && !strings.Contains(m, `.delete"`) {
		return
	}
	var e struct{ Event string }
	decode(m, &e)
	s.expects = e.Event == s.rid+".unsubscribe" || e.Event == s.rid+".delete"
}

// ended checks why the gateway has closed the connection.
func (s *stream) ended() {
	s.over = false
	if s.status == 0 || s.status == 200 && !s.expects {
		if !s.stalls {
			s.w.failf("%s is closed by the gateway, with status %d", s.name, s.status)
		}
	}
	s.gone()
}

// check compares what the client holds with the services' state.
func (s *stream) check() error {
	if s.conn == nil {
		return nil
	}
	switch {
	case !s.begun:
		return fmt.Errorf("%s: no response to a GET of %s", s.name, s.rid)
	case s.expects:
		return fmt.Errorf("%s: the stream of %s has not ended", s.name, s.rid)
	}
	return s.follower.check()
}
