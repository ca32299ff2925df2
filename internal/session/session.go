// Package session owns what one client of an event loop has asked for and been
// given: its requests in progress, its direct and indirect subscriptions, what
// it holds, its access and its token (RES.md 2 and 3.3).
//
// It does no I/O: it sends frames to a Peer, asks services through a Bus, and
// gets resources from its loop's fanout.Hub. A session belongs to its loop;
// nothing in this package may be used from elsewhere, and nothing waits.
package session

import (
	"log/slog"
	"sync/atomic"
	"time"

	"sluice/fanout"
	"sluice/internal/res"
)

// Bus sends requests to services. done is called later, on the session's
// loop, with the answer, which is valid during the call, or with the error
// that stands in for it. It is never called before Request returns.
type Bus interface {
	Request(name, subject string, payload []byte, done func(payload []byte, err *res.Error))
	// RequestSubscribed is Request for a resource whose topic is still loading:
	// the service gets the request only when events of the resource reach the
	// gateway, so that none that follows from its answer is missed.
	RequestSubscribed(name, subject string, payload []byte, done func(payload []byte, err *res.Error))
	// Ahead returns what makes such a Request when the hub's source calls it, just
	// before it asks for the resource (fanout.Source.Subscribe).
	Ahead(name, subject string, payload []byte, done func(payload []byte, err *res.Error)) (send func())
}

// Peer is the client as the services get to know it.
type Peer interface {
	// Describe sets what an auth request says of the client's HTTP request:
	// Header, Host, RemoteAddr and URI.
	Describe(r *res.AuthRequest)
}

// Throttle limits how many requests of one kind are under way in the gateway.
// grant is called once, on any goroutine; each grant is answered by a Release.
type Throttle interface {
	Acquire(grant func())
	Release()
}

// Limits bound what one client can make the gateway keep.
type Limits struct {
	DirectPerRID  int // direct subscriptions of one resource ID (RES.md 2.3: 256)
	Subscriptions int // resources subscribed, direct and indirect, before new requests are refused
	Requests      int // requests in progress
	HeldEvents    int // events kept per subscription while they may not be sent
	References    int // gets under way for the references of one request; 0: no limit (referenceThrottle)
}

// Metrics counts what sessions do. The sessions of all loops share one.
type Metrics struct {
	Sessions      atomic.Int64
	Subscriptions atomic.Int64
	Requests      [int(res.New) + 1]atomic.Uint64 // by res.RequestType
	Invalid       atomic.Uint64                   // requests answered with system.invalidRequest
	Dropped       atomic.Uint64                   // messages that got no answer: no JSON, or no id
	Refused       atomic.Uint64                   // requests over a limit
	Held          atomic.Uint64                   // events kept back for a subscription
	Conflated     atomic.Uint64                   // events replaced by a later difference
	Lost          atomic.Uint64                   // custom events dropped from a full queue
	Revoked       atomic.Uint64                   // direct subscriptions ended by the gateway
}

// Env is what the sessions of one loop share.
type Env struct {
	Hub     *fanout.Hub
	Bus     Bus
	Parser  *res.Parser
	Reset   Throttle                        // for access asked anew after a system.reset
	Post    func(f func())                  // runs f later on this loop; any goroutine may call it
	After   func(d time.Duration, f func()) // runs f on this loop when d has passed
	Limits  Limits
	Metrics *Metrics
	Log     *slog.Logger
	Warn    func(name string) // a service answered "new" in the legacy form

	// Relieved is called when what Session.Await waits for has happened, in the middle of anything.
	Relieved func(Peer)
	// Invalid is told of an answer that is none, with the subject of the request.
	Invalid func(subject string, err *res.Error)

	current  *Session                         // is worked for: see Enter
	requests int                              // in progress, of all sessions that are open
	tids     map[string]map[*Session]struct{} // sessions by token ID
	buf, msg []byte                           // the message being built
	payload  []byte                           // the service request being built
	found    []*Sub                           // scratch of unsent
	set      []fanout.Resource                // the resource set being collected
}

// legacyNew notes that a call of method "new" was answered in the legacy form, by
// the resource's name as the client writes it: neither its queries nor the
// connection IDs in it make another resource of it.
func (env *Env) legacyNew(rid string) {
	name, _ := res.SplitRID(rid)
	env.Warn(name)
}

// noteInvalid notes what came of reading the answer to a call or auth request.
func (env *Env) noteInvalid(err *res.Error, kind, name, method string) {
	if err != nil && err.Invalid() {
		env.Invalid(kind+name+"."+method, err)
	}
}

// Requests returns how many requests of all clients are in progress.
func (e *Env) Requests() int { return e.requests }

// Session is one client.
type Session struct {
	// Fixed after construction.
	env  *Env
	peer Peer
	out  fanout.Outbox
	cid  string
	form fanout.Form
	http bool // services are told that the client speaks HTTP

	ended func() // called when a stream's subscription has ended; nil: no stream

	// Owned by the loop.
	version  res.Version
	token    string // raw JSON; "" if none
	tid      string
	subs     table
	requests int32    // in progress
	relief   int32    // below this number of requests Env.Relieved is called; 0: never
	waiting  *waiting // for their turn; nil: none
	closed   bool
	faulty   bool   // a panic has left it in doubt
	lagging  bool   // the client does not read; events are held
	mark     uint32 // newest visit of the subscription graph

	loose      []*Sub      // have lost an edge; the next collect looks at them
	frozen     int         // the graph is being changed: see freeze
	proceeding bool        // somebody goes through loaded and freed: see proceed
	loaded     []*Sub      // their topics are settled; they are not yet
	freed      []*throttle // have a free place
}

// New returns the session of a client that has just connected and gets its
// frames through out in the form given. cid is its connection ID, a single NATS
// subject token.
func New(env *Env, peer Peer, out fanout.Outbox, form fanout.Form, cid string) *Session {
	env.Metrics.Sessions.Add(1)
	return &Session{env: env, peer: peer, out: out, form: form, cid: cid, version: res.V1_1_1}
}

// CID returns the connection ID, which services know the client by.
func (s *Session) CID() string { return s.cid }

// Close ends the session: it leaves all topics, and answers to requests in
// progress are dropped when they come.
func (s *Session) Close() {
	if s.closed {
		return
	}
	s.setTID("")
	s.closed = true
	s.env.requests -= int(s.requests)
	s.subs.each(func(b *Sub) {
		s.env.Hub.Leave(&b.Member)
		b.state = subDisposed
		if b.work != nil {
			b.work.slot.free()
		}
	})
	s.env.Metrics.Subscriptions.Add(-int64(s.subs.len()))
	s.env.Metrics.Sessions.Add(-1)
	s.subs = table{}
	s.loaded, s.freed, s.waiting = nil, nil, nil
}

// Message handles one message from the client. msg is not kept.
func (s *Session) Message(msg []byte) {
	before := s.env.Enter(s)
	s.message(msg)
	s.env.Enter(before)
}

func (s *Session) message(msg []byte) {
	var r res.Request
	if err := s.env.Parser.Request(msg, &r); err != nil {
		e, ok := err.(*res.Error)
		if !ok {
			s.env.Metrics.Dropped.Add(1)
			s.env.Log.Debug("message from client dropped", "cid", s.cid, "why", err)
			return
		}
		s.env.Metrics.Invalid.Add(1)
		s.began()
		s.fail(r.ID, e)
		return
	}
	s.env.Metrics.Requests[r.Type].Add(1)
	s.began()
	if max := s.env.Limits.Requests; max > 0 && int(s.requests) > max {
		s.env.Metrics.Refused.Add(1)
		s.fail(r.ID, res.InternalError("too many requests in progress"))
		return
	}
	switch r.Type {
	case res.VersionRequest:
		s.setVersion(r.ID, r.Params)
	case res.Subscribe:
		s.subscribe(r.ID, r.RID)
	case res.Unsubscribe:
		s.unsubscribe(r.ID, r.RID, r.Params)
	case res.Get:
		s.get(r.ID, r.RID)
	case res.Call, res.New:
		s.call(&r)
	case res.Auth:
		s.auth(&r)
	}
}

// Requests returns how many of the client's requests are in progress.
func (s *Session) Requests() int { return int(s.requests) }

// Await has Env.Relieved called, once, when no more than n of the client's requests are in progress, more of which are
// there now.
func (s *Session) Await(n int) { s.relief = int32(n) + 1 }

// began counts a request.
func (s *Session) began() {
	s.requests++
	s.env.requests++
}

// over counts the answer to a request.
func (s *Session) over() {
	s.requests--
	if s.closed {
		return
	}
	s.env.requests--
	if s.requests < s.relief {
		s.relief = 0
		s.env.Relieved(s.peer)
	}
}

func (s *Session) setVersion(id string, params []byte) {
	protocol, present, err := s.env.Parser.VersionParams(params)
	if err != nil {
		s.fail(id, err)
		return
	}
	v := res.V1_1_1
	if present {
		if v, err = res.ParseVersion(protocol); err != nil {
			s.fail(id, err)
			return
		}
	}
	s.version = v
	s.subs.each(func(b *Sub) { b.SetVariant(s.variant()) })
	s.result(id, versionResult)
}

var versionResult = []byte(`{"protocol":"` + res.Current.String() + `"}`)

// variant returns which bytes of events the client gets.
func (s *Session) variant() fanout.Variant {
	return fanout.VariantOf(s.form, s.version < res.V1_2_1)
}

// result answers a request; a nil result is left out.
func (s *Session) result(id string, result []byte) {
	s.over()
	s.env.msg = res.AppendResult(s.env.msg[:0], id, result)
	s.send(s.env.msg)
}

// fail answers a request with an error.
func (s *Session) fail(id string, err *res.Error) {
	s.over()
	s.env.msg = res.AppendError(s.env.msg[:0], id, err)
	s.send(s.env.msg)
}

func (s *Session) send(message []byte) {
	if !s.closed {
		s.out.Send(s.env.Hub.Frame(message, s.form))
	}
}

// subscribe answers a subscribe request.
func (s *Session) subscribe(id, rid string) {
	s.fetch(rid, true, func(b *Sub, err *res.Error) {
		if err != nil {
			s.fail(id, err)
			return
		}
		s.resultSet(id, b, nil)
	})
}

// get answers a get request. Nothing of it lasts.
func (s *Session) get(id, rid string) {
	s.fetch(rid, false, func(b *Sub, err *res.Error) {
		if err != nil {
			s.fail(id, err)
			return
		}
		s.resultSet(id, b, nil)
	})
}

// resultSet answers a request with the resource set that b brings, with the
// members of more, if any, before it.
func (s *Session) resultSet(id string, b *Sub, more []byte) {
	s.over()
	if s.closed {
		return
	}
	s.env.set = s.collectSet(s.env.set[:0], b)
	// The id comes first: the rest may be the same as other clients'.
	head := append(append(s.env.msg[:0], `{"id":`...), id...)
	head = append(append(head, `,"result":{`...), more...)
	s.env.msg = head
	s.env.Hub.SendSet(s.out, s.variant(), head, s.env.set, len(more) > 0, "}}")
	clear(s.env.set)
}

// setOf returns the JSON object of the resource set that b brings, with the
// members of more, if any, before it. It is valid until the next message is built.
func (s *Session) setOf(b *Sub, more []byte) []byte {
	s.env.set = s.collectSet(s.env.set[:0], b)
	buf := append(s.env.buf[:0], '{')
	buf = append(buf, more...)
	buf = fanout.AppendSet(buf, s.env.set, s.variant().Legacy(), len(more) > 0)
	clear(s.env.set)
	s.env.buf = append(buf, '}')
	return s.env.buf
}

// unsubscribe answers an unsubscribe request, after those that were sent before.
func (s *Session) unsubscribe(id, rid string, params []byte) {
	count, err := s.env.Parser.UnsubscribeCount(params)
	if err != nil {
		s.fail(id, err)
		return
	}
	if s.mustWait(rid, true) {
		s.enqueue(rid, request{alone: true, run: func() { s.drop(id, rid, count) }})
		return
	}
	s.drop(id, rid, count)
}

// drop gives up direct subscriptions, for an unsubscribe request.
func (s *Session) drop(id, rid string, count int) {
	b := s.subs.get(rid)
	if b == nil || count > int(b.held) {
		s.fail(id, res.ErrNoSubscription)
		return
	}
	b.held -= int32(count)
	s.result(id, nil)
	if b.held == 0 {
		b.lapse()
		s.collect(b)
	}
}

// event sends an event whose data is data, or that has none if it is nil.
func (s *Session) event(rid, name string, data []byte) {
	s.env.msg = res.AppendEvent(s.env.msg[:0], rid, name, data)
	s.send(s.env.msg)
}

// Updates of resources reach a session through its subscriptions.
var _ fanout.Subscriber = (*Sub)(nil)
