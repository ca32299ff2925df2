package fanout

import "sluice/internal/state"

// defaultPortion is how many events of a long difference a client gets at a time: some ten kilobytes mostly.
const defaultPortion = 512

// Script is a long difference that several subscribers go through, each at its own pace: a client that got all of it at
// once would have megabytes in its outbox. Its events are cut into portions, and each portion that changes no references is
// encoded once for each variant, as one slice. A script lives as long as a subscriber is on its way through it.
type Script struct {
	hub      *Hub
	rid      string
	events   []*state.Event
	portions []portion
}

type portion struct {
	frames [variants][]byte
}

// NewScript makes a script of the events of a difference; nil if they are so few that they can be sent at once.
func (h *Hub) NewScript(rid string, events []*state.Event) *Script {
	if len(events) <= h.Portion {
		return nil
	}
	return &Script{hub: h, rid: rid, events: events, portions: make([]portion, (len(events)+h.Portion-1)/h.Portion)}
}

// Len is the number of events.
func (s *Script) Len() int { return len(s.events) }

// Event returns the event with the given number, from 0.
func (s *Script) Event(i int) *state.Event { return s.events[i] }

// End is the state that the script leads to.
func (s *Script) End() *state.Snapshot { return s.events[len(s.events)-1].Next }

// Portion returns where the portion that event i is in ends, and its frames, one behind the other. There are no frames if
// i is not its first event, or if one of its events changes references, so that they have to be sent one by one.
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
	}
	return *p, end
}
