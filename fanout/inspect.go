package fanout

import "time"

// TopicInfo is what a hub knows of a topic, at one moment.
type TopicInfo struct {
	RID         string // as clients write it
	Name, Query string // as services know it
	Ready       bool   // loaded
	Subscribers int
	Deliveries  float64 // events sent to subscribers per second, of late
}

func (t *Topic) info(now time.Duration) TopicInfo {
	return TopicInfo{t.key.rid, t.key.name, t.key.query, t.phase == phaseReady, len(t.members), t.delivered.PerSecond(now)}
}

// Walk calls f for the topics in the next n slots of the hub, from on; the first call has 0. It
// returns where to go on, or -1 at the end. A topic that exists during the whole walk is visited
// once.
func (h *Hub) Walk(from, n int, f func(TopicInfo)) (next int) {
	end := min(from+n, len(h.slots))
	now := h.Now()
	for i := max(from, 0); i < end; i++ {
		if t := h.slots[i].topic; t != nil {
			f(t.info(now))
		}
	}
	if end == len(h.slots) {
		return -1
	}
	return end
}

// Info returns what the hub knows of the topic that its source knows as ref; false if it is gone.
func (h *Hub) Info(ref uint64) (TopicInfo, bool) {
	t := h.byRef(ref)
	if t == nil {
		return TopicInfo{}, false
	}
	return t.info(h.Now()), true
}

// Members calls f for the next n subscribers of the topic that its source knows as ref, from on. It
// returns where to go on, or -1 at the end. Subscribers that come or go between two calls may be
// missed, or visited twice.
func (h *Hub) Members(ref uint64, from, n int, f func(Subscriber)) (next int) {
	t := h.byRef(ref)
	if t == nil {
		return -1
	}
	end := min(from+n, len(t.members))
	for i := max(from, 0); i < end; i++ {
		f(t.members[i].sub)
	}
	if end == len(t.members) {
		return -1
	}
	return end
}
