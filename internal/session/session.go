// Package session owns the protocol state of one client. That is: its requests in progress,
// its direct and indirect subscriptions, the resources that it holds, its access and its token
// (RES.md 2 and 3.3).
//
// It does no I/O: it sends frames to an outbox and requests through a Bus, and gets resources from
// its loop's fanout.Hub. A session belongs to its loop: no other goroutine may use it, and nothing
// blocks.
package session

import (
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"sluice/fanout"
	"sluice/internal/limit"
	"sluice/internal/loglimit"
	"sluice/internal/owner"
	"sluice/internal/res"
	"sluice/internal/state"
	"sluice/internal/tracing"
)

// Bus sends requests to services. It calls done on the session's loop, after Request has returned,
// with the reply, which is valid during the call, or with the error that replaces it.
type Bus interface {
	// Request sends a request. Its priority counts while the service has too many.
	Request(p limit.Priority, name, subject string, payload []byte, done func(payload []byte, err *res.Error))
	// RequestSubscribed is Request for a resource whose topic is loading. It sends the request only
	// when the resource's events reach the gateway, so that no event after the reply is missed.
	RequestSubscribed(name, subject string, payload []byte, done func(payload []byte, err *res.Error))
	// Ahead returns a function that makes such a request. The hub's source calls it just before it
	// gets the resource (fanout.Source.Subscribe).
	Ahead(name, subject string, payload []byte, done func(payload []byte, err *res.Error)) (send func())
}

// Peer describes the client to services.
type Peer interface {
	// Describe sets the fields of an auth request that describe the client's HTTP request: Header,
	// Host, RemoteAddr and URI.
	Describe(r *res.AuthRequest)
}

// Throttle limits how many requests of one kind are in flight in the gateway. It calls grant once,
// on any goroutine; each grant is followed by one Release.
type Throttle interface {
	Acquire(grant func())
	Release()
}

// Limits bound the memory and requests that one client can cause.
type Limits struct {
	DirectPerRID  int // direct subscriptions of one resource ID (RES.md 2.3: 256)
	Subscriptions int // resources subscribed, direct and indirect; at the limit requests for more are rejected
	Requests      int // requests in progress
	HeldEvents    int // events queued per subscription while they may not be sent
	References    int // gets in flight for the references of one request; 0: no limit (referenceThrottle)
}

// Metrics counts the work of sessions. The sessions of all loops share one.
type Metrics struct {
	Sessions      atomic.Int64
	Subscriptions atomic.Int64
	Requests      [int(res.New) + 1]atomic.Uint64 // by res.RequestType
	Invalid       atomic.Uint64                   // requests rejected with system.invalidRequest
	Dropped       atomic.Uint64                   // messages without a response: not JSON, or without an id
	Refused       atomic.Uint64                   // requests rejected because of a limit
	Held          atomic.Uint64                   // events queued until they may be sent
	Conflated     atomic.Uint64                   // events replaced by a later difference
	Lost          atomic.Uint64                   // custom events dropped from a full queue
	HeldBytes     atomic.Int64                    // the events that are queued, each counted once
	HeldShares    atomic.Int64                    // the same, counted for each queue that has it
	Revoked       atomic.Uint64                   // direct subscriptions ended by the gateway
}

// Env has what the sessions of one loop share.
type Env struct {
	Hub     *fanout.Hub
	Bus     Bus
	Parser  *res.Parser
	Reset   Throttle                        // for access rechecks after a system.reset
	Post    func(f func())                  // runs f later on this loop; any goroutine may call it
	After   func(d time.Duration, f func()) // runs f on this loop when d has passed
	Limits  Limits
	Metrics *Metrics
	Log     *slog.Logger
	Warn    func(name string) // a service replied to "new" in the legacy form

	Now   func() time.Duration // since any fixed moment
	Wheel *owner.Wheel         // times the ends of tokens, see Session.Grant

	// Login handles an auth request itself and returns true, or returns false: then the service
	// gets the request. It calls done once, on the loop, with the error for the client, or with nil
	// after Session.Grant. params are valid during the call. It may be nil.
	Login func(s *Session, rid, method string, params []byte, done func(err *res.Error)) bool

	// Relieved is called when the condition of Session.Await holds. It must only
	// schedule work: the session may be in the middle of a change.
	Relieved func(Peer)
	// Invalid is called for an invalid reply, with the subject of the request.
	Invalid func(subject string, err *res.Error)
	Faults  *owner.Faults // takes note of panics contained here; may be nil
	// Traced is called for each request of a client, and for its error if it is not valid; nil: no
	// trace is on. It must not keep the parameters.
	Traced func(s *Session, r res.Request, err error)
	// Watcher follows the clients; nil: it is off.
	Watcher Watcher
	// Ended is called when a session has closed: Bus need not wait for the replies to its requests.
	Ended func(*Session)

	// Recorder records a span of each request of a client, which Bus finds as Env.Span. nil:
	// requests are not traced.
	Recorder *tracing.Recorder
	traces

	badRenewal loglimit.Limiter // of lines about auth requests after a token reset

	requests   int          // in progress, of all open sessions
	inProgress openRequests // the same and those of HTTP
	current    *Session     // the session that the loop works for; see Enter
	ahead      aheads       // see newcomer
	tokens     tokenIndex   // sessions by token ID
	search     search       // memory of graph searches
	spare      *items       // for the next agenda that needs them; may be nil
	works      []*work      // not in use, as those that follow
	asked      []*accessRequest
	fetched    []*fetch
	calls      []*call
	usual      [4]usualReply     // newest replies to access requests, by their length
	set        []fanout.Resource // the resource set being collected
	buf, msg   []byte            // the message being built
	payload    []byte            // the service request being built
}

// legacyNew reports a legacy reply to method "new", by the resource name as the client writes it: a
// query or connection ID in it makes no other resource of it.
func (env *Env) legacyNew(rid string) {
	name, _ := res.SplitRID(rid)
	env.Warn(name)
}

// noteInvalid reports an invalid reply to a call or auth request.
func (env *Env) noteInvalid(err *res.Error, kind, name, method string) {
	if err != nil && err.Invalid() {
		env.Invalid(kind+name+"."+method, err)
	}
}

// Requests returns how many requests of all clients are in progress.
func (env *Env) Requests() int { return env.requests }

// Session is one client. Each embedded type has the state of one role, and its
// own file; the methods of Session connect them.
type Session struct {
	identity  // describes the client to services
	responder // messages to the client
	graph     // subscriptions and the references between them
	agenda    // deferred work

	places int32 // taken in the reset throttle
}

// New returns the session of a client that has just connected. It sends frames
// to out in the given form. cid is the connection ID, a single NATS subject token.
func New(env *Env, peer Peer, out fanout.Outbox, form fanout.Form, cid string) *Session {
	s := new(Session)
	Init(s, env, peer, out, form, cid)
	return s
}

// Init is New for a session that is a part of something else: s is the zero value, and must not be
// copied from now on.
func Init(s *Session, env *Env, peer Peer, out fanout.Outbox, form fanout.Form, cid string) {
	env.Metrics.Sessions.Add(1)
	s.identity = identity{cid: cid}
	s.responder = responder{env: env, peer: peer, out: out, form: form, version: res.V1_1_1}
}

// Close ends the session: it leaves all topics, and replies to requests in
// flight are dropped when they arrive. A panic about one subscription does not
// keep it from leaving the topics of the others. It may be called again.
func (s *Session) Close() {
	if s.closed {
		return
	}
	s.closed = true
	if s.watched {
		s.env.Watcher.Closed(s)
	}
	s.env.requests -= int(s.requests)
	s.env.Metrics.Sessions.Add(-1)
	s.env.Metrics.Subscriptions.Add(-int64(s.subs.Len()))
	for s.places > 0 {
		s.releasePlace()
	}
	s.env.setGrant(s, "", 0)
	s.env.forgetAhead(s)
	if s.env.Recorder != nil {
		s.env.endSpans(&s.responder)
	}
	for s.oldest != nil {
		s.release(s.oldest)
	}
	s.subs.each(leave)
	s.subs = table{}
	s.clearItems(false, &s.env.spare)
	if s.env.Ended != nil {
		s.env.Ended(s)
	}
}

// leave ends a subscription of a session that is being closed.
func leave(b *Sub) {
	defer b.s.env.Faults.Contain(owner.Loop)
	b.to(subDisposed)
	if b.work != nil {
		b.work.slot.free()
		b.work.dropEvents(b.s.env.Metrics)
	}
	b.s.env.Hub.Leave(&b.Member)
	b.s.env.endWork(b)
}

// Message handles one message from the client. msg is not kept.
func (s *Session) Message(msg []byte) {
	var r res.Request
	err := s.env.Parser.Request(msg, &r)
	s.Request(&r, err)
}

// Request handles one message from the client that has been parsed: r and err are what
// res.Parser.Request made of it.
func (s *Session) Request(r *res.Request, err error) {
	if s.closed {
		return
	}
	if s.env.Traced != nil {
		s.env.Traced(s, *r, err)
	}
	before := s.env.Enter(s)
	s.request(r, err)
	s.env.span = nil
	s.env.Enter(before)
}

// maxName bounds the name of a resource ID, in bytes: by default, NATS servers accept subjects of
// about 4 KiB.
const maxName = 64 << 10

func nameOf(rid string) string {
	name, _ := res.SplitRID(rid)
	return name
}

// maxExpansions bounds how often {cid} stands in a resource ID: each one adds the connection's ID.
const maxExpansions = 256

func (s *Session) request(r *res.Request, err error) {
	if err == nil && (len(r.RID) > maxName && len(nameOf(r.RID)) > maxName || strings.Count(r.RID, "{cid}") > maxExpansions) {
		err = res.ErrSubjectTooLong
	}
	if err != nil {
		e, ok := err.(*res.Error)
		if !ok {
			s.env.Metrics.Dropped.Add(1)
			s.env.Log.Debug("message from client dropped", "cid", s.cid, "reason", err)
			return
		}
		s.env.Metrics.Invalid.Add(1)
		s.began()
		s.fail(r.ID, e)
		return
	}
	s.env.Metrics.Requests[r.Type].Add(1)
	s.began()
	s.env.inProgress.add(s, r.Type, r.ID, r.RID, r.Method)
	if s.env.Recorder != nil {
		s.env.beginSpan(s, r)
	}
	if max := s.env.Limits.Requests; max > 0 && int(s.requests) > max {
		s.env.Metrics.Refused.Add(1)
		s.fail(r.ID, res.InternalError("too many requests in progress"))
		return
	}
	switch r.Type {
	case res.VersionRequest:
		s.setVersion(r.ID, r.Params)
	case res.Subscribe:
		s.fetchSet(r.ID, r.RID, true)
	case res.Unsubscribe:
		s.unsubscribe(r.ID, r.RID, r.Params)
	case res.Get:
		s.fetchSet(r.ID, r.RID, false)
	case res.Call, res.New:
		s.call(r)
	case res.Auth:
		s.auth(r)
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
	s.version, s.versioned = v, true
	changed(s)
	s.tellLost = s.env.Parser.WantsLost(params)
	s.subs.each(func(b *Sub) { b.SetVariant(s.variant()) })
	if s.tellLost {
		s.result(id, versionResultLost)
		return
	}
	s.result(id, versionResult)
}

var (
	versionResult     = []byte(`{"protocol":"` + res.Current.String() + `"}`)
	versionResultLost = []byte(`{"protocol":"` + res.Current.String() + `","` + state.LostName + `":true}`)
)

// fetchSet responds to a subscribe request (keep) or a get request.
func (s *Session) fetchSet(id, rid string, keep bool) {
	s.fetch(id, rid, keep, nil)
}

// setOf returns the resources that the client needs to hold b. It is valid until
// the next set is collected.
func (s *Session) setOf(b *Sub) []fanout.Resource {
	s.env.set = s.collectSet(s.env.set[:0], b)
	return s.env.set
}

// unsubscribe responds to an unsubscribe request, after the requests before it.
func (s *Session) unsubscribe(id, rid string, params []byte) {
	count, err := s.env.Parser.UnsubscribeCount(params)
	if err != nil {
		s.fail(id, err)
		return
	}
	if s.mustQueue(rid, true) {
		s.waits(id, rid, waitOrder)
		s.ensureItems(&s.env.spare).enqueue(rid, queuedRequest{alone: true, run: s.env.keep(func() { s.endDirect(id, rid, count) })})
		return
	}
	s.endDirect(id, rid, count)
}

// endDirect ends direct subscriptions, for an unsubscribe request.
func (s *Session) endDirect(id, rid string, count int) {
	b := s.subs.Get(rid)
	if b == nil || count > int(b.direct) {
		s.fail(id, res.ErrNoSubscription)
		return
	}
	b.direct -= int32(count)
	s.result(id, nil)
	if b.direct == 0 {
		b.cancelReaccess()
		s.collect(b)
	}
}

// Updates of resources reach a session through its subscriptions.
var _ fanout.Subscriber = (*Sub)(nil)
