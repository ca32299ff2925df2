package natsbus

import (
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/internal/limit"
	"sluice/internal/tracing"
)

// trace begins the span of a request.
func (c *Caller) trace(s *slot, r *Request) {
	s.span = c.recorder.Child(s.kind.String(), r.Trace)
	s.span.Text("messaging.system", "nats")
	s.span.Text("messaging.operation.name", "request")
	s.span.Text("messaging.operation.type", "send")
	if s.kind != limit.KindQuery { // a service has chosen that subject, and may have put anything into it
		s.span.Text("messaging.destination.name", r.Subject)
	}
	s.span.Int("messaging.message.body.size", len(r.Payload))
}

// traced ends the span of a request that has ended.
func (c *Caller) traced(s *slot, data []byte, err error) {
	span := s.span
	s.span = nil
	sent := s.stage() != unsent
	if sent && s.service != nil {
		span.Seconds("sluice.queue.duration", max(time.Duration(s.sentAt.Load())-s.made, 0))
	}
	result, fault := "ok", false
	switch {
	case err == nil:
		if isError(data) {
			result = "error"
		}
	case errors.Is(err, ErrAbandoned):
		result = "abandoned"
	case errors.Is(err, ErrCut):
		result, fault = "cut", true
	case errors.Is(err, ErrQueueTimeout):
		result, fault = "queue_timeout", true
	case errors.Is(err, ErrTimeout):
		result, fault = "timeout", true
	case errors.Is(err, ErrNoResponders):
		result, fault = "no_responders", true
	case errors.Is(err, ErrOverloaded):
		result, fault = "overloaded", true
	default:
		result, fault = "rejected", true
	}
	span.Text("sluice.result", result)
	if result != "ok" {
		span.Fail(result, fault)
	}
	c.recorder.End(span)
}

// headerDigits is how much longer the protocol line of a message with a header is: HPUB has the
// length of the header as well.
const headerDigits = 1 + 4

// publishTraced publishes a request with its trace in the header, if the server takes
// headers. A request that has room for no header goes without one: it must not fail for its trace.
func (p *publisher) publishTraced(nc Conn, o *op, reply string, payload []byte) error {
	line := publishLine(o.subject, len(reply), len(payload)) + headerDigits
	if nc.HeadersSupported() && line <= int(p.lineLimit.Load()) {
		m := nats.Msg{Subject: o.subject, Reply: reply, Data: payload, Header: nats.Header{tracing.ParentField: {o.trace.Parent()}}}
		if o.trace.State != "" {
			m.Header[tracing.StateField] = []string{o.trace.State}
		}
		err := nc.PublishMsg(&m)
		if !errors.Is(err, nats.ErrMaxPayload) {
			if line > int(p.longest.Load()) {
				p.longest.Store(int32(line))
			}
			return err
		}
	}
	return nc.PublishRequest(o.subject, reply, payload)
}
