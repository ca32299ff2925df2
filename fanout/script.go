package fanout

import (
	"sluice/internal/invariants"
	"sluice/internal/state"
)

// defaultPortion is the number of events in a portion of a long difference: usually tens of
// kilobytes.
const defaultPortion = 512

// Script is a long difference that several subscribers send, each at its own pace: all of it in one
// batch would put megabytes into an outbox. Its events are divided into portions. A portion that
// changes no references is encoded once for each variant, as one slice. Subscribers that have not
// reached its end keep a script alive.
type Script struct {
	hub      *Hub
	rid      string
	events   []*state.Event
	portions []portion

	holders int // subscribers that have not reached its end
	size    int // of the events
	framed  int // of the encoded portions
}

type portion struct {
	frames [variants][]byte
}

// NewScript returns a script of a difference's events; nil if they fit into one portion.
func (h *Hub) NewScript(rid string, events []*state.Event) *Script {
	if len(events) <= h.Portion {
		return nil
	}
	return h.newScript(rid, events)
}

func (h *Hub) newScript(rid string, events []*state.Event) *Script {
	return &Script{hub: h, rid: rid, events: events, size: state.StepBytes(events), portions: make([]portion, (len(events)+h.Portion-1)/h.Portion)}
}

// Size returns what the script weighs for each of its holders, in bytes.
func (s *Script) Size() int { return s.size }

// Keep records that a subscriber keeps the script until it calls Release.
func (s *Script) Keep() {
	if s.holders++; s.holders == 1 {
		s.hub.metrics.VersionBytes.Add(int64(s.size + s.framed))
	}
	s.hub.metrics.VersionShares.Add(int64(s.size))
}

// Release ends one Keep.
func (s *Script) Release() {
	if invariants.Enabled {
		invariants.Check(s.holders > 0, "%s: a long difference is released without a holder", s.rid)
	}
	if s.holders--; s.holders == 0 {
		s.hub.metrics.VersionBytes.Add(-int64(s.size + s.framed))
	}
	s.hub.metrics.VersionShares.Add(-int64(s.size))
}

// Len returns the number of events.
func (s *Script) Len() int { return len(s.events) }

// Event returns the event with the given number, from 0.
func (s *Script) Event(i int) *state.Event { return s.events[i] }

// End returns the state after the last event.
func (s *Script) End() *state.Snapshot { return s.events[len(s.events)-1].Next }

// Portion returns the end of the portion that has event i, and its concatenated frames. frames is
// nil if i is not its first event, or if one of its events changes references: then the caller
// sends them singly.
func (s *Script) Portion(i int, v Variant) (frames []byte, end int) {
	size := s.hub.Portion
	end = min(i-i%size+size, len(s.events))
	if i%size != 0 {
		return nil, end
	}
	p := &s.portions[i/size].frames[v.index()]
	if *p == nil {
		events := s.events[i:end]
		for _, e := range events {
			if len(e.AddedRefs)+len(e.RemovedRefs) > 0 {
				return nil, end
			}
		}
		for _, e := range events {
			*p = s.hub.framers[v.Form()](*p, s.hub.encode(s.rid, e, v, nil))
		}
		s.hub.metrics.Encodings.Add(uint64(len(events)))
		s.framed += len(*p)
		if s.holders > 0 {
			s.hub.metrics.VersionBytes.Add(int64(len(*p)))
		}
	}
	return *p, end
}
