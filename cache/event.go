package cache

import (
	"errors"

	"sluice/internal/res"
	"sluice/internal/state"
)

var (
	errName      = errors.New("the event's name is invalid")
	errReserved  = errors.New("the event's name is reserved")
	errMisplaced = errors.New("the event has no meaning in the answer to a query request")
)

// event handles what came on event.<name>.<event>, or has it wait for its turn.
func (s *Shard) event(r *resource, event string, payload []byte) {
	if r.lock.held() {
		if !r.lock.room(len(payload), &s.opt) {
			s.metrics.EventsLost.Add(1)
			r.lock.lossy = true
			return
		}
		r.lock.queue(held{event: event, payload: payload})
		return
	}
	switch event {
	case "query":
		s.queryEvent(r, payload)
	case "reaccess":
		for _, e := range r.sorted() {
			s.reaccess(e)
		}
	default:
		// All other events are the plain resource's. If its own get was answered with a query there is none.
		if e := r.entries[""]; e != nil && !r.lock.covers(e) {
			s.entryEvent(e, event, payload)
		}
	}
}

// reaccess makes the loops ask for access again, those included that still wait for the entry to be loaded.
func (s *Shard) reaccess(e *entry) {
	for _, sb := range e.subs.list {
		s.post(sb, state.Update{Kind: state.Reaccess})
	}
}

// entryEvent applies an event to one entry.
func (s *Shard) entryEvent(e *entry, event string, payload []byte) {
	if e.snap == nil {
		return // the answer to the get has it
	}
	var ev *state.Event
	var err error
	switch event {
	case "change", "add", "remove", "delete":
		if e.fetch != nil {
			e.lost = true // the answer to the re-get has it, if there will be one
			return
		}
		if event == "delete" {
			s.deleted(e)
			return
		}
		ev, err = s.stateEvent(e, event, payload)
	case "reaccess":
		s.reaccess(e)
		return
	case "query":
		err = errMisplaced
	case "unsubscribe":
		// A client takes it for the gateway's word that its subscription has ended (RES.md 2.3).
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
		s.bad(e.r, event, err)
		return
	}
	if ev != nil {
		e.set(ev.Next)
		s.deliver(e, ev)
	}
}

func (s *Shard) stateEvent(e *entry, event string, payload []byte) (*state.Event, error) {
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

// deleted ends an entry that its service has deleted. Its subs are told, and forgotten.
func (s *Shard) deleted(e *entry) {
	s.metrics.Deletes.Add(1)
	s.deliver(e, state.NewDelete(e.snap))
	s.drop(e, false)
}

// bad notes an event that cannot be applied. Nothing else comes of it.
func (s *Shard) bad(r *resource, event string, err error) {
	s.metrics.EventsBad.Add(1)
	s.log.Error("bad event dropped", "resource", r.name, "event", event, "error", err)
}

// queryEvent asks the service what a query event means for each query that is cached, all at the same time. Entries that
// are still loading are not asked about: the answer that they wait for is newer than the event, and so is one that came
// while the event waited.
func (s *Shard) queryEvent(r *resource, payload []byte) {
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
		s.bad(r, "query", err)
		return
	}
	r.lock.take(len(ask))
	for _, e := range ask {
		s.metrics.QueryRequests.Add(1)
		s.bus.Request(r.name, subject, res.AppendQueryRequest(nil, e.query), func(payload []byte, err *res.Error) {
			s.doubt.r = r
			if !e.gone {
				s.queryAnswer(e, subject, payload, err)
			}
			if r.lock.release() {
				s.unlocked(r)
			}
		})
	}
}

func (s *Shard) queryAnswer(e *entry, subject string, payload []byte, err *res.Error) {
	var got res.QueryResult
	if err == nil {
		if got, err = s.parser.QueryResponse(payload); err != nil && err.Code == res.CodeNotFound {
			if e.fetch != nil {
				e.lost = true
				return
			}
			s.deleted(e)
			return
		}
	}
	if err != nil {
		if err.Invalid() {
			s.opt.Invalid(subject, err)
		}
		s.metrics.QueryFailures.Add(1)
		s.log.Warn("a query request failed, the old state stays", "resource", e.r.name, "query", e.query, "error", err)
		return
	}
	switch {
	case got.IsModel || got.IsCollection:
		if e.fetch != nil {
			e.lost = true
			return
		}
		if !s.replace(e, snapshotOf(got.IsModel, got.Props, got.Values)) {
			s.metrics.QueryFailures.Add(1)
		}
	default:
		for _, ev := range got.Events {
			if e.gone {
				return
			}
			s.entryEvent(e, ev.Name, ev.Data)
		}
	}
}
