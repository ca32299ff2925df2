package session

import (
	"sluice/internal/limit"
	"sluice/internal/res"
	"sluice/internal/tracing"
)

// call is a call, new or auth request in progress. Its memory is used again after the response,
// unless that waits for a resource.
type call struct {
	request
	params []byte // of a call, until it is sent

	// Fixed when it is first used.
	onAccess func(*access, *res.Meta) // send
	onReply  func([]byte, *res.Error) // reply
}

// request is what a call is about.
type request struct {
	s           *Session
	id          string
	kind        string // the subject's prefix
	rid, method string
	isNew       bool
	span        *tracing.Span // of the request; nil: it is not traced
}

func (env *Env) takeCall(r request) *call {
	c := take(&env.calls)
	if c.onAccess == nil {
		c.onAccess = func(a *access, _ *res.Meta) { c.send(a) }
		c.onReply = c.reply
	}
	c.request = r
	return c
}

// maxParams is the length, in bytes, up to which the memory of parameters is kept.
const maxParams = 1 << 10

// end is called when nothing refers to the call any more.
func (c *call) end() {
	env := c.s.env
	c.request = request{}
	if c.params = c.params[:0]; cap(c.params) > maxParams {
		c.params = nil
	}
	keep(&env.calls, c, keepSpares)
}

// call asks for access and then sends a call or new request to the service.
func (s *Session) call(r *res.Request) {
	c := s.env.takeCall(request{s: s, id: r.ID, kind: "call.", rid: r.RID, method: r.Method, isNew: r.Type == res.New, span: s.env.span})
	c.params = append(c.params[:0], r.Params...)
	if c.isNew {
		c.method = "new"
	}
	if b := s.subs.Get(r.RID); b != nil && notified(b) {
		b.pins++
		b.withAccess(limit.Call, accessFunc(func(a *access) {
			c.send(a)
			b.pins--
			s.collect(b)
		}))
		return
	}
	name, query := s.resolve(r.RID)
	s.askAccess(name, query, maxCuts, c.onAccess)
}

// send sends the call to the service if access is granted.
func (c *call) send(a *access) {
	s := c.s
	if err := a.canCall(c.method); err != nil {
		s.fail(c.id, err)
		c.end()
		return
	}
	name, query := s.resolve(c.rid)
	subject := c.subject(name)
	s.env.payload = res.AppendCallRequest(s.env.payload[:0], s.callRequest(query, c.params))
	s.waits(c.id, c.rid, waitService)
	before := s.env.Within(c.span) // the access result may be that of another request
	s.env.Bus.Request(limit.Call, name, subject, s.env.payload, c.onReply)
	s.env.Within(before)
}

// subject returns the subject of the request to a service.
func (c *call) subject(name string) string {
	env := c.s.env
	env.payload = append(append(append(append(env.payload[:0], c.kind...), name...), '.'), c.method...)
	return env.Parser.Interned.Of(env.payload)
}

// auth sends an auth request to the service, unless the gateway handles it; it
// needs no access.
func (s *Session) auth(r *res.Request) {
	c := s.env.takeCall(request{s: s, id: r.ID, kind: "auth.", rid: r.RID, method: r.Method})
	if s.env.Login != nil && s.env.Login(s, r.RID, r.Method, r.Params, c.loggedIn) {
		s.waits(c.id, c.rid, waitLogin) // unless it has responded
		return
	}
	s.waits(c.id, c.rid, waitService)
	name, query := s.resolve(r.RID)
	a := res.AuthRequest{CallRequest: s.callRequest(query, r.Params)}
	s.peer.Describe(&a)
	s.env.payload = res.AppendAuthRequest(s.env.payload[:0], a)
	s.env.Bus.Request(limit.Call, name, c.kind+name+"."+c.method, s.env.payload, c.onReply)
}

// loggedIn responds to an auth request that the gateway has handled.
func (c *call) loggedIn(err *res.Error) {
	s := c.s
	s.private = true
	defer func() { s.private = false }()
	switch {
	case s.closed:
	case err != nil:
		s.fail(c.id, err)
	case s.version < res.V1_2_0:
		s.result(c.id, []byte("null"))
	default:
		s.result(c.id, []byte(`{"payload":null}`))
	}
}

// reply handles the service's reply, or the error that replaces it.
func (c *call) reply(payload []byte, err *res.Error) {
	s := c.s
	s.private = c.kind == "auth."
	if !c.respond(payload, err) {
		c.end()
	}
	s.private = false
}

// respond responds to the client. It reports whether that waits for a resource.
func (c *call) respond(payload []byte, err *res.Error) (waits bool) {
	s := c.s
	if s.closed {
		return false
	}
	var r res.CallResult
	if err == nil {
		r, _, err = s.env.Parser.Call(payload, c.method)
		name, _ := s.resolve(c.rid)
		s.env.noteInvalid(err, c.kind, name, c.method)
	}
	if err != nil {
		s.fail(c.id, err)
		return false
	}
	if r.Legacy {
		s.env.legacyNew(c.rid)
	}
	switch {
	case r.RID == "" && c.isNew:
		s.fail(c.id, res.InternalError("new request answered without a resource"))
	case r.RID == "" && s.version < res.V1_2_0:
		s.result(c.id, r.Payload)
	case r.RID == "":
		buf := append(s.env.buf[:0], `{"payload":`...)
		buf = append(append(buf, r.Payload...), '}')
		s.env.buf = buf
		s.result(c.id, buf)
	case s.version < res.V1_2_0 && !c.isNew:
		buf := append(s.env.buf[:0], '{')
		s.env.buf = append(appendRID(buf, r.RID), '}')
		s.result(c.id, s.env.buf)
	default:
		c.resource(r.RID)
		return true
	}
	return false
}

// resource responds with a resource, of which the client gets a direct
// subscription. The call has succeeded, so a failed fetch is reported among the
// errors of the resource set.
func (c *call) resource(rid string) {
	s := c.s
	s.fetch(c.id, rid, true, func(b *Sub, err *res.Error) {
		member := appendRID(nil, rid)
		if err == nil {
			s.resultSet(c.id, s.setOf(b), member)
			return
		}
		buf := append(append(s.env.buf[:0], '{'), member...)
		buf = append(buf, `,"errors":{`...)
		buf = append(res.AppendString(buf, rid), ':')
		buf = append(err.AppendJSON(buf), "}}"...)
		s.env.buf = buf
		s.result(c.id, buf)
	})
}

func appendRID(dst []byte, rid string) []byte {
	return res.AppendString(append(dst, `"rid":`...), rid)
}
