package session

import (
	"sluice/fanout"
	"sluice/internal/res"
)

// Tap has f called with the bytes of each message to a client, just before they are sent: frames
// or server-sent events, as its form is. private reports that they respond to an auth request. f
// must not keep the bytes. nil ends it. A session of an HTTP request has no messages.
func Tap(s *Session, f func(sent []byte, private bool)) {
	out := s.out
	if t, ok := out.(*tap); ok {
		out = t.Outbox
	}
	if f != nil && out != nil {
		out = &tap{out, s, f}
	}
	s.out = out
	s.subs.each(func(b *Sub) { b.SetOutbox(out) })
}

// FormOf returns how a client's messages are encoded.
func FormOf(s *Session) fanout.Form { return s.form }

// tap is an outbox that shows what it sends. While no trace is on, no session has one.
type tap struct {
	fanout.Outbox
	s *Session
	f func(sent []byte, private bool)
}

// Send implements fanout.Outbox.
func (t *tap) Send(frame []byte) {
	t.f(frame, t.s.private)
	t.Outbox.Send(frame)
}

// showHTTP shows an HTTP request as if it was a client's message.
func showHTTP(s *Session, kind res.RequestType, rid, method string, params []byte) {
	if s.env.Traced != nil {
		s.env.Traced(s, res.Request{Type: kind, RID: rid, Method: method, Params: params}, nil)
	}
}
