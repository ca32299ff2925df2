package session

import (
	"time"

	"sluice/fanout"
	"sluice/internal/res"
)

// openRequests has a record of each request in progress, of all sessions of a loop. Records live in
// pages, so that a walk can go on where it has paused, and are used again: a page is made only when
// more requests are in progress than ever before. The zero value is empty.
type openRequests struct {
	pages  []*[openPage]openRequest
	unused *openRequest // linked by next
}

const openPage = 256

// openRequest is a client's request from its arrival to its response. The requests of a session
// form a ring, of which responder.oldest is the first.
type openRequest struct {
	s          *Session // nil: the record is unused
	kind       res.RequestType
	waits      waitReason
	id         string // "" for HTTP
	rid        string // of which resource; that of a call's result once the call has returned one
	method     string
	since      time.Duration
	next, prev *openRequest
}

// waitReason says what keeps a request from its response.
type waitReason uint8

const (
	waitAccess  waitReason = iota // the reply to its access request
	waitOrder                     // the responses to earlier requests about the same resource ID
	waitLoad                      // the resource, or one that it refers to
	waitService                   // the reply to its call or auth request
	waitLogin                     // the gateway, which verifies a token
)

var waitReasons = [...]string{waitAccess: "access", waitOrder: "order", waitLoad: "load", waitService: "service", waitLogin: "login"}

// add records a request of s.
func (t *openRequests) add(s *Session, kind res.RequestType, id, rid, method string) {
	if t.unused == nil {
		t.grow()
	}
	o := t.unused
	t.unused = o.next
	*o = openRequest{s: s, kind: kind, id: id, rid: rid, method: method, since: s.env.Now()}
	first := s.oldest
	if first == nil {
		s.oldest, o.next, o.prev = o, o, o
		return
	}
	o.next, o.prev = first, first.prev
	o.prev.next, first.prev = o, o
}

func (t *openRequests) grow() {
	page := new([openPage]openRequest)
	for i := range page {
		o := &page[openPage-1-i] // so that the first of the page is taken first
		o.next, t.unused = t.unused, o
	}
	t.pages = append(t.pages, page)
}

// find returns the oldest record of a request ID; nil if there is none.
func (r *responder) find(id string) *openRequest {
	for o := r.oldest; o != nil; {
		if o.id == id {
			return o
		}
		if o = o.next; o == r.oldest {
			break
		}
	}
	return nil
}

// waits records what the request with an ID waits for, and which resource that is about.
func (r *responder) waits(id, rid string, why waitReason) {
	if o := r.find(id); o != nil {
		o.rid, o.waits = rid, why
	}
}

// settled removes the record of the request with an ID.
func (r *responder) settled(id string) {
	if o := r.find(id); o != nil {
		r.release(o)
	}
}

func (r *responder) release(o *openRequest) {
	switch {
	case o.next == o:
		r.oldest = nil
	case o == r.oldest:
		r.oldest = o.next
	}
	o.next.prev, o.prev.next = o.prev, o.next
	t := &r.env.inProgress
	*o = openRequest{next: t.unused}
	t.unused = o
}

// RequestInfo is what a session knows of a client's request in progress, at one moment.
type RequestInfo struct {
	CID    string
	Client string // websocket, stream or http
	Type   string // version, subscribe, unsubscribe, get, call, new or auth
	RID    string // as the client writes it; its query may contain a secret
	Method string // of a call or auth request
	Age    time.Duration
	Waits  string // for access, order, load, service or login: waitReason

	// Subject is that of the request to a service whose reply is awaited; "" if it is not known.
	Subject string
}

// EachRequest calls f for at most n requests in progress of a session, the oldest first.
func EachRequest(s *Session, n int, f func(RequestInfo)) {
	for o := s.oldest; o != nil && n > 0; n-- {
		f(o.info())
		if o = o.next; o == s.oldest {
			return
		}
	}
}

// WalkRequests calls f for each request in progress of the page from, 256 at most, in no particular
// order, and returns the next page, -1 after the last one.
func (env *Env) WalkRequests(from int, f func(RequestInfo)) (next int) {
	pages := env.inProgress.pages
	if from < len(pages) {
		for i := range pages[from] {
			if o := &pages[from][i]; o.s != nil {
				f(o.info())
			}
		}
	}
	if from+1 >= len(pages) {
		return -1
	}
	return from + 1
}

func (o *openRequest) info() RequestInfo {
	s := o.s
	i := RequestInfo{
		CID: s.cid, Client: "websocket", Type: o.kind.String(), RID: o.rid, Method: o.method,
		Age: s.env.Now() - o.since, Waits: waitReasons[o.waits],
	}
	switch {
	case s.out == nil:
		i.Client = "http"
	case s.form == fanout.Stream:
		i.Client = "stream"
	}
	name, _ := s.resolve(o.rid)
	switch o.waits {
	case waitAccess:
		i.Subject = "access." + name
	case waitLoad:
		if loading := s.loading(o.rid); loading != "" {
			name, _ = s.resolve(loading)
			i.Subject = "get." + name
		}
	case waitService:
		kind := "call."
		if o.kind == res.Auth {
			kind = "auth."
		}
		i.Subject = kind + name + "." + o.method
	}
	return i
}

// maxLoading bounds the references among which loading searches.
const maxLoading = 16

// loading returns the ID of a resource that loads: rid's own, or one that it refers to directly, if
// that is among the first; else "".
func (g *graph) loading(rid string) string {
	b := g.subs.Get(rid)
	switch {
	case b == nil:
		return ""
	case b.state == subLoading:
		return rid
	case b.state != subReady || !b.snapshot().HasRefs():
		return ""
	}
	n := 0
	for ref := range b.snapshot().Refs() {
		if c := g.subs.Get(ref); c != nil && c.state == subLoading {
			return ref
		}
		if n++; n == maxLoading {
			break
		}
	}
	return ""
}
