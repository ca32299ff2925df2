package session

import (
	"sluice/fanout"
	"sluice/internal/res"
)

// responder encodes and sends a client's messages, and counts its requests in
// progress. It knows no subscriptions.
type responder struct {
	env      *Env
	peer     Peer
	out      fanout.Outbox
	version  res.Version
	requests int32        // in progress
	oldest   *openRequest // the ring of those that are recorded; nil: none
	relief   int32        // when fewer are in progress, Env.Relieved is called; 0: never
	form     fanout.Form
	closed   bool
	faulty   bool // a panic has left the session in doubt
	lagging  bool // the client is a slow consumer; its events are held
	tellLost bool // the client asked to be told of dropped custom events
	private  bool // the messages that are sent now respond to an auth request: see Tap
	watched  bool // Env.Watcher follows the client

	versioned bool // the client has named version
	http      bool // access requests say that the client speaks HTTP
}

// Peer returns the client as New was given it.
func (r *responder) Peer() Peer { return r.peer }

// Closed reports whether the session has ended.
func (r *responder) Closed() bool { return r.closed }

// Requests returns how many of the client's requests are in progress.
func (r *responder) Requests() int { return int(r.requests) }

// Await makes Env.Relieved be called, once, when at most n of the client's
// requests are in progress. More than n are now.
func (r *responder) Await(n int) { r.relief = int32(n) + 1 }

// began counts a request.
func (r *responder) began() {
	r.requests++
	r.env.requests++
}

// over counts the response to the request with an ID.
func (r *responder) over(id string) {
	r.settled(id)
	r.requests--
	if r.closed {
		return
	}
	r.env.requests--
	if r.requests < r.relief {
		r.relief = 0
		r.env.Relieved(r.peer)
	}
}

// variant returns which encoding of events the client gets.
func (r *responder) variant() fanout.Variant {
	return fanout.VariantOf(r.form, r.version < res.V1_2_1)
}

// result sends the response to a request; a nil result is omitted.
func (r *responder) result(id string, result []byte) {
	r.over(id)
	if r.env.Recorder != nil {
		r.endSpan(id, nil)
	}
	r.env.msg = res.AppendResult(r.env.msg[:0], id, result)
	r.send(r.env.msg)
}

// fail sends an error as the response to a request.
func (r *responder) fail(id string, err *res.Error) {
	r.over(id)
	if r.env.Recorder != nil {
		r.endSpan(id, err)
	}
	r.env.msg = res.AppendError(r.env.msg[:0], id, err)
	r.send(r.env.msg)
}

// event sends an event; nil data is omitted.
func (r *responder) event(rid, name string, data []byte) {
	r.env.msg = res.AppendEvent(r.env.msg[:0], rid, name, data)
	r.send(r.env.msg)
}

func (r *responder) send(message []byte) {
	if !r.closed {
		r.out.Send(r.env.Hub.Frame(message, r.form))
	}
}

// resultSet sends a resource set as the response to a request. The members in
// more, if any, precede it. The caller must not use set afterwards.
func (r *responder) resultSet(id string, set []fanout.Resource, more []byte) {
	r.over(id)
	if r.env.Recorder != nil {
		r.endSpan(id, nil)
	}
	if !r.closed {
		// The id comes first: the rest may be the same as other clients'.
		head := append(append(r.env.msg[:0], `{"id":`...), id...)
		head = append(append(head, `,"result":{`...), more...)
		r.env.msg = head
		r.env.Hub.SendSet(r.out, r.variant(), head, set, len(more) > 0, "}}")
	}
	clear(set)
}

// setObject returns the JSON object of a resource set, after the members in more,
// if any. It is valid until the next message is built. The caller must not use
// set afterwards.
func (r *responder) setObject(set []fanout.Resource, more []byte) []byte {
	buf := append(r.env.buf[:0], '{')
	buf = append(buf, more...)
	buf = fanout.AppendSet(buf, set, r.variant().Legacy(), len(more) > 0)
	clear(set)
	r.env.buf = append(buf, '}')
	return r.env.buf
}
