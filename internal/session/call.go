package session

import (
	"bytes"

	"sluice/internal/res"
)

// call answers a call or new request: access is asked, then the service.
func (s *Session) call(r *res.Request) {
	c := &call{s: s, id: r.ID, kind: "call.", rid: r.RID, method: r.Method, params: bytes.Clone(r.Params), isNew: r.Type == res.New}
	if c.isNew {
		c.method = "new"
	}
	if b := s.subs.get(r.RID); b != nil {
		b.pins++
		b.withAccess(func(a *access) {
			c.send(a)
			b.pins--
			s.collect(b)
		})
		return
	}
	name, query := res.SplitRID(res.ExpandCID(r.RID, s.cid))
	s.askAccess(name, query, func(a *access, _ *res.Meta) { c.send(a) })
}

// call is a call or auth request in progress.
type call struct {
	s           *Session
	id          string
	kind        string // the subject's prefix
	rid, method string
	params      []byte
	isNew       bool
}

// send sends the call to the service if access is granted.
func (c *call) send(a *access) {
	s := c.s
	if err := a.canCall(c.method); err != nil {
		s.fail(c.id, err)
		return
	}
	name, query := res.SplitRID(res.ExpandCID(c.rid, s.cid))
	s.env.payload = res.AppendCallRequest(s.env.payload[:0], res.CallRequest{CID: s.cid, Token: s.token, Query: query, Params: c.params})
	s.env.Bus.Request(name, c.kind+name+"."+c.method, s.env.payload, c.answer)
}

// auth answers an auth request, which needs no access.
func (s *Session) auth(r *res.Request) {
	c := &call{s: s, id: r.ID, kind: "auth.", rid: r.RID, method: r.Method}
	name, query := res.SplitRID(res.ExpandCID(r.RID, s.cid))
	a := res.AuthRequest{CallRequest: res.CallRequest{CID: s.cid, Token: s.token, Query: query, Params: r.Params}}
	s.peer.Describe(&a)
	s.env.payload = res.AppendAuthRequest(s.env.payload[:0], a)
	s.env.Bus.Request(name, c.kind+name+"."+c.method, s.env.payload, c.answer)
}

// answer passes the service's answer on.
func (c *call) answer(payload []byte, err *res.Error) {
	s := c.s
	if s.closed {
		return
	}
	var r res.CallResult
	if err == nil {
		r, _, err = s.env.Parser.Call(payload, c.method)
		name, _ := res.SplitRID(res.ExpandCID(c.rid, s.cid))
		s.env.noteInvalid(err, c.kind, name, c.method)
	}
	if err != nil {
		s.fail(c.id, err)
		return
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
		s.resource(c.id, r.RID)
	}
}

// resource answers with a resource, to which a direct subscription is held
// from then on. The call has succeeded, so what goes wrong now stands among
// the errors of the resource set.
func (s *Session) resource(id, rid string) {
	s.fetch(rid, true, func(b *Sub, err *res.Error) {
		member := appendRID(nil, rid)
		if err == nil {
			s.resultSet(id, b, member)
			return
		}
		buf := append(append(s.env.buf[:0], '{'), member...)
		buf = append(buf, `,"errors":{`...)
		buf = append(res.AppendString(buf, rid), ':')
		buf = append(err.AppendJSON(buf), "}}"...)
		s.env.buf = buf
		s.result(id, buf)
	})
}

func appendRID(dst []byte, rid string) []byte {
	return res.AppendString(append(dst, `"rid":`...), rid)
}
