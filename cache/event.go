package cache

import (
	"errors"

	"sluice/internal/limit"
	"sluice/internal/res"
	"sluice/internal/state"
)

var (
	errName      = errors.New("invalid event name")
	errReserved  = errors.New("reserved event name")
	errMisplaced = errors.New("event is not allowed in a query response")
)

// event handles an event received on event.<name>.<event>, or defers it while the name is locked.
func (r *resource) event(event string, payload []byte) {
	if r.lock.held() {
		if !r.lock.room(len(payload), &r.s.opt) {
			r.s.metrics.EventsLost.Add(1)
			r.lock.lossy = true
			return
		}
		r.lock.queue(deferred{event: event, payload: payload})
		return
	}
	switch event {
	case "query":
		r.queryEvent(payload)
	case "reaccess":
		for _, e := range r.sorted() {
			r.s.deliverReaccess(e)
		}
	default:
		// All other events are of the plain resource. It has no entry if its get's reply has a
		// query.
		if e := r.entries.plain; e != nil && !r.lock.covers(e) {
			e.event(event, payload)
		}
	}
}

// event applies an event to the entry.
func (e *entry) event(event string, payload []byte) {
	if e.snap == nil {
		return // the get's reply will include it
	}
	s := e.r.s
	var ev *state.Event
	var err error
	switch event {
	case "change", "add", "remove", "delete":
		if e.fetch != nil {
			e.lost = true // the re-get's reply will include it, if there is one
			return
		}
		if event == "delete" {
			e.deleted()
			return
		}
		ev, err = e.stateEvent(event, payload)
	case "reaccess":
		s.deliverReaccess(e)
		return
	case "query":
		err = errMisplaced
	case "unsubscribe":
		// To a client it means that the gateway has ended its subscription (RES.md 2.3).
		err = errReserved
	default:
		if !res.ValidPart(event) {
			err = errName
			break
		}
		var raw []byte
		if raw, err = s.parser.Custom(payload); err == nil {
			ev = state.NewCustom(event, raw, e.snap)
		}
	}
	if err != nil {
		e.r.bad(event, err)
		return
	}
	if ev == nil {
		return
	}
	if size := ev.Next.Size(); s.tooLarge(size) && ev.Kind != state.Custom {
		e.end(e.large("event."+e.r.name+"."+event, size))
		return
	}
	e.set(ev.Next)
	if e.seen == nil {
		e.seen = new(seen)
	}
	e.seen.note(event, s.now)
	s.deliver(e, ev)
}

// stateEvent parses an event of state and returns it with the state after it. The event is nil if
// it changes nothing.
func (e *entry) stateEvent(event string, payload []byte) (*state.Event, error) {
	s := e.r.s
	switch event {
	case "change":
		if !e.snap.IsModel() {
			return nil, state.ErrWrongType
		}
		props, legacy, err := s.parser.Change(payload)
		if err != nil {
			return nil, err
		}
		if legacy {
			s.deprecate(e.r.name, `change events without "values"`)
		}
		return e.snap.Change(props)
	case "add":
		index, value, err := s.parser.Add(payload)
		if err != nil {
			return nil, err
		}
		return e.snap.Add(index, value)
	default:
		index, err := s.parser.Remove(payload)
		if err != nil {
			return nil, err
		}
		return e.snap.Remove(index)
	}
}

// bad counts and logs an event that cannot be applied; it is dropped.
func (r *resource) bad(event string, err error) {
	r.s.metrics.EventsBad.Add(1)
	r.s.logs.error(&r.s.logs.badEvent, "bad event dropped", "resource", r.name, "event", event, "error", err)
}

// queryEvent sends a query request for each cached query, all in parallel. Entries that are loading
// need none: the reply to their get is newer than the event. So is one that arrived while the event
// was deferred.
func (r *resource) queryEvent(payload []byte) {
	s := r.s
	var ask []*entry
	queries := false
	for _, e := range r.sorted() {
		if e.query == "" {
			continue
		}
		queries = true
		if e.snap != nil && !r.lock.covers(e) {
			ask = append(ask, e)
		}
	}
	if !queries {
		return
	}
	subject, err := s.parser.QueryEvent(payload)
	if err != nil {
		r.bad("query", err)
		return
	}
	if len(ask) > 0 {
		r.take(len(ask))
	}
	for _, e := range ask {
		s.metrics.QueryRequests.Add(1)
		s.bus.Request(limit.Load, r.name, subject, res.AppendQueryRequest(nil, e.query), func(payload []byte, err *res.Error) {
			s.doubt.r = r
			if !e.gone {
				e.queryReply(subject, payload, err)
			}
			if r.lock.release() {
				r.unlocked()
			}
		})
	}
}

// queryReply applies the reply to a query request.
func (e *entry) queryReply(subject string, payload []byte, err *res.Error) {
	s := e.r.s
	if s.tooLarge(len(payload)) && e.snap != nil {
		s.metrics.QueryFailures.Add(1)
		e.end(e.large(subject, len(payload)))
		return
	}
	var got res.QueryResult
	if err == nil {
		if got, err = s.parser.QueryResponse(payload); err != nil && err.Code == res.CodeNotFound {
			if e.fetch != nil {
				e.lost = true
				return
			}
			e.deleted()
			return
		}
	}
	if err != nil {
		if err.Invalid() {
			s.opt.Invalid(subject, err)
		}
		s.metrics.QueryFailures.Add(1)
		s.logs.warn(&s.logs.query, "query request failed; the old state stays", "resource", e.r.name, "query", e.query, "error", err)
		return
	}
	switch {
	case got.IsModel || got.IsCollection:
		if e.fetch != nil {
			e.lost = true
			return
		}
		if !e.replace(snapshotOf(got.IsModel, got.Props, got.Values)) {
			s.metrics.QueryFailures.Add(1)
		}
	default:
		for _, ev := range got.Events {
			if e.gone {
				return
			}
			e.event(ev.Name, ev.Data)
		}
	}
}
