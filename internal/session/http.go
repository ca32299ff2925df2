package session

import (
	"bytes"

	"sluice/fanout"
	"sluice/internal/limit"
	"sluice/internal/res"
)

// Graph is a resource with all resources that it refers to, directly or indirectly. It is
// immutable, and any goroutine may use it.
type Graph struct {
	Root      string
	Resources map[string]fanout.Resource // by resource ID; each has a snapshot or an error; nil: see alone

	alone fanout.Resource // the root, if that is all there is
}

// Find returns a resource of the graph; the zero value if it is not in the graph.
func (g *Graph) Find(rid string) fanout.Resource {
	if g.Resources == nil && rid == g.Root {
		return g.alone
	}
	return g.Resources[rid]
}

// NewHTTP returns the session of one HTTP request. It sends no messages: Authenticate, Fetch and
// Invoke call the function given to them once, on the loop, unless the session is closed before.
// The caller closes the session.
func NewHTTP(env *Env, peer Peer, cid string) *Session {
	s := New(env, peer, nil, fanout.Message, cid)
	s.http = true
	s.version = res.Current
	return s
}

// NewStream returns the session of a client that gets a stream of server-sent events through out.
// Call Stream once.
func NewStream(env *Env, peer Peer, out fanout.Outbox, cid string, tellLost bool) *Session {
	s := New(env, peer, out, fanout.Stream, cid)
	s.http = true
	s.version, s.versioned = res.Current, true
	s.tellLost = tellLost
	return s
}

// ends reports whether the status in a reply's meta ends an HTTP request without further requests
// to services (RES.md 4).
func ends(m *res.Meta) bool { return m != nil && m.Status >= 300 && m.Status < 600 }

// Authenticate sends an auth request for header authentication; for a WebSocket client this
// precedes its first message. A token event that the service sends before its reply has taken
// effect when done is called. done's rid is set if the reply has a resource.
func (s *Session) Authenticate(rid, method string, done func(rid string, meta *res.Meta, err *res.Error)) {
	before := s.env.Enter(s)
	s.env.inProgress.add(s, res.Auth, "", rid, method)
	s.waits("", rid, waitService)
	name, query := s.resolve(rid)
	r := res.AuthRequest{CallRequest: s.callRequest(query, nil), NoParams: true}
	r.IsHTTP = true
	s.peer.Describe(&r)
	s.env.payload = res.AppendAuthRequest(s.env.payload[:0], r)
	s.env.Bus.Request(limit.Access, name, "auth."+name+"."+method, s.env.payload, func(payload []byte, err *res.Error) {
		if s.closed {
			return
		}
		var result res.CallResult
		var meta *res.Meta
		if err == nil {
			result, meta, err = s.env.Parser.Call(payload, method)
			s.env.noteInvalid(err, "auth.", name, method)
		}
		s.settled("")
		done(result.RID, meta, err)
	})
	s.env.Enter(before)
}

// Fetch gets a resource with all that it refers to. If the status of meta ends the request, there
// may be neither a graph nor an error.
func (s *Session) Fetch(rid string, done func(g *Graph, meta *res.Meta, err *res.Error)) {
	showHTTP(s, res.Get, rid, "", nil)
	before := s.env.Enter(s)
	s.env.inProgress.add(s, res.Get, "", rid, "")
	s.open(rid, false, func(b *Sub, meta *res.Meta, err *res.Error) {
		s.settled("")
		if err != nil || b == nil {
			done(nil, meta, err)
			return
		}
		set := s.collectSet(s.env.set[:0], b)
		g := &Graph{Root: rid}
		if len(set) == 1 { // the usual case; a map would cost more than all the rest
			g.alone = set[0]
		} else {
			g.Resources = make(map[string]fanout.Resource, len(set))
			for _, r := range set {
				g.Resources[r.RID] = r
			}
		}
		clear(set)
		s.env.set = set[:0]
		done(g, meta, nil)
	})
	s.env.Enter(before)
}

// Stream subscribes to a resource. done gets the first message of the stream, valid during the
// call. It is a JSON object with the member rid and the groups of the resource set. Events follow
// through the outbox. Without a set there is no stream; meta or err has the reason. ended is called
// when the gateway has ended the subscription, after the event that tells the client why.
func (s *Session) Stream(rid string, done func(set []byte, meta *res.Meta, err *res.Error), ended func()) {
	showHTTP(s, res.Subscribe, rid, "", nil)
	before := s.env.Enter(s)
	s.ensureRare().ended = ended
	s.env.inProgress.add(s, res.Subscribe, "", rid, "")
	Announce(s)
	s.open(rid, true, func(b *Sub, meta *res.Meta, err *res.Error) {
		s.settled("")
		if err != nil || b == nil {
			done(nil, meta, err)
			return
		}
		done(s.setObject(s.setOf(b), appendRID(nil, rid)), meta, nil)
	})
	s.env.Enter(before)
}

// open starts a fetch for HTTP. It always sends an access request, since the
// reply's meta counts. answer is called with neither a subscription nor an error
// if meta ends the request.
func (s *Session) open(rid string, keep bool, answer func(b *Sub, meta *res.Meta, err *res.Error)) {
	f := s.env.takeFetch()
	f.s, f.rid, f.keep = s, rid, keep
	f.claim(func(b *Sub) (first func()) {
		return b.askAccess(true, limit.Access, func(a *access, meta *res.Meta) {
			err := a.canGet()
			if ends(meta) || err != nil {
				if ends(meta) && a.err == nil {
					err = nil
				}
				answer(nil, meta, err)
				f.done(false)
				return
			}
			if keep && !b.reaccess {
				b.cacheAccess(a)
			}
			s.waits("", rid, waitLoad)
			loaded := func() {
				if b.state == subFailed {
					answer(nil, meta, b.work.err)
					f.done(false)
					return
				}
				answer(b, meta, nil)
				f.done(true)
			}
			if s.incomplete(b) {
				newWaiter(s, []*Sub{b}, loaded)
			} else {
				loaded()
			}
		})
	})
}

// Invoke calls a method. metas are those of the replies that arrived: access, then call. The caller
// owns the result's payload. If the status of the last meta ends the request, there may be neither
// a result nor an error.
func (s *Session) Invoke(rid, method string, params []byte, done func(r res.CallResult, metas []*res.Meta, err *res.Error)) {
	showHTTP(s, res.Call, rid, method, params)
	before := s.env.Enter(s)
	s.env.inProgress.add(s, res.Call, "", rid, method)
	name, query := s.resolve(rid)
	params = bytes.Clone(params)
	s.askAccess(name, query, maxCuts, func(a *access, meta *res.Meta) {
		metas := []*res.Meta{meta}
		if ends(meta) {
			s.settled("")
			done(res.CallResult{}, metas, a.err)
			return
		}
		if err := a.canCall(method); err != nil {
			s.settled("")
			done(res.CallResult{}, metas, err)
			return
		}
		r := s.callRequest(query, params)
		r.IsHTTP = true
		s.env.payload = res.AppendCallRequest(s.env.payload[:0], r)
		s.waits("", rid, waitService)
		s.env.Bus.Request(limit.Call, name, "call."+name+"."+method, s.env.payload, func(payload []byte, err *res.Error) {
			if s.closed {
				return
			}
			var result res.CallResult
			if err == nil {
				result, meta, err = s.env.Parser.Call(payload, method)
				s.env.noteInvalid(err, "call.", name, method)
				metas = append(metas, meta)
				result.Payload = bytes.Clone(result.Payload)
				if result.Legacy {
					s.env.legacyNew(rid)
				}
			}
			s.settled("")
			done(result, metas, err)
		})
	})
	s.env.Enter(before)
}
