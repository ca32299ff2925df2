package fanout

import (
	"maps"
	"time"

	"sluice/internal/overlap"
	"sluice/internal/state"
)

// While clients go over to another process that gets the same events (docs/upgrade.md), both keep
// what their topics have lately had to send. So what the one has yet to send to a client when it
// goes, the other can, and nothing twice.

const (
	// mostPast bounds how many events of a topic are kept.
	mostPast = 4096
	// pastFor is how long they are.
	pastFor = 2 * overlap.Apart
)

// Happened is what a topic's subscribers had to be told: an event, or, if it is nil, that access
// must be rechecked.
type Happened struct {
	Event *state.Event
	Prev  *state.Snapshot // the resource before the event
	Why   Reason
	ended bool // a topic that has ended told it: only sum and at are set
	sum   uint64
	at    time.Duration
}

// past is what a topic's subscribers were told lately. Owned by the loop.
type past struct {
	since time.Duration // nothing before is known
	all   []Happened
	count int // of all times
}

// Remember sets whether the hub keeps what its topics have to send.
func Remember(h *Hub, on bool) {
	h.remembers, h.gone = on, nil
	for t := range h.topics.all() {
		if t.past = nil; on && t.phase == phaseReady {
			t.past = &past{since: h.Now()}
		}
	}
}

// mostGone bounds of how many topics that have ended something is kept.
const mostGone = 4096

// keepPast keeps the custom events of a topic that ends: the next one of the resource may begin
// before the other process has got them. A client that had them here, lost the resource and got it
// again would be sent them once more there.
func (h *Hub) keepPast(t *Topic) {
	if !h.remembers || t.past == nil {
		return
	}
	oldest := h.Now() - pastFor
	var kept []Happened
	for _, e := range t.past.all {
		if custom(e.sum) && e.at >= oldest {
			kept = append(kept, Happened{ended: true, sum: e.sum, at: e.at})
		}
	}
	if len(kept) == 0 {
		return
	}
	if len(h.gone) >= mostGone {
		maps.DeleteFunc(h.gone, func(_ topicKey, all []Happened) bool { return all[len(all)-1].at < oldest })
	}
	if h.gone == nil {
		h.gone = make(map[topicKey][]Happened)
	}
	if len(h.gone) < mostGone {
		h.gone[t.key] = kept
	}
}

// pastOf returns the past of a topic that has loaded: what an earlier one of the resource has told,
// and rechecks of access that came meanwhile.
func (h *Hub) pastOf(t *Topic) *past {
	p := &past{since: h.Now(), all: h.gone[t.key]}
	delete(h.gone, t.key)
	if t.past != nil {
		p.all = append(p.all, t.past.all...)
	}
	p.count = len(p.all)
	return p
}

// remember keeps what the subscribers are told now.
func (t *Topic) remember(e *state.Event, why Reason) {
	now := t.hub.Now()
	if t.past == nil {
		t.past = &past{since: now}
	}
	p := t.past
	if len(p.all) == mostPast || len(p.all) > 0 && p.all[0].at < now-pastFor {
		drop := 0
		for drop < len(p.all) && (len(p.all)-drop > mostPast/2 || p.all[drop].at < now-pastFor) {
			drop++
		}
		// What was dropped came to the other process a little later, perhaps: what is older than
		// overlap.Apart was told here in any case.
		if last := p.all[drop-1].at; last < now-pastFor {
			p.since = max(p.since, last+overlap.Apart)
		} else {
			p.since = max(p.since, last)
		}
		p.all = append(p.all[:0], p.all[drop:]...)
	}
	h := Happened{Event: e, Why: why, at: now, sum: ReaccessSum(why)}
	if e != nil {
		h.Prev, h.sum = t.snap, e.Sum()
	}
	p.all = append(p.all, h)
	p.count++
}

// ReaccessSum is what Mark.Sum is for a recheck of access.
func ReaccessSum(why Reason) uint64 { return uint64(why) << 1 }

// custom reports whether a sum is of a custom event. These come to all processes in one order,
// unlike differences that a get brings, and rechecks of access.
func custom(sum uint64) bool { return sum&1 == 0 && sum > ReaccessSum(Gap) }

// Marks appends what the topic's subscribers were told, with its times moved by epoch.
func (t *Topic) Marks(dst []overlap.Mark, epoch time.Duration) []overlap.Mark {
	if t.past == nil {
		return dst
	}
	for i := range t.past.all {
		dst = append(dst, overlap.Mark{Sum: t.past.all[i].sum, At: t.past.all[i].at + epoch})
	}
	return dst
}

// Since returns from when on Marks are complete, at most overlap.Apart ago: what came to another
// process before that was told here, or is what that has got late, when it was stopped.
func (t *Topic) Since() time.Duration {
	now := t.hub.Now()
	if t.past == nil {
		return now
	}
	return max(t.past.since, now-overlap.Apart)
}

// Join makes sub a member, as Hub.Join does, of a topic that has loaded. It may have ended since:
// then the member gets no more events.
func (t *Topic) Join(sub Subscriber, out Outbox, v Variant) {
	t.add(sub, out, v)
	t.hub.metrics.Members.Add(1)
}

// Key returns the resource ID as clients write it, and the name and query by which services know
// the resource.
func (t *Topic) Key() (rid, name, query string) { return t.key.rid, t.key.name, t.key.query }

// Seam is where the subscribers of a topic go over from another process to this one: what that
// process has told them, compared with what this one has told its own.
type Seam struct {
	Topic  *Topic // whose end does not end the Seam
	Theirs []overlap.Mark
	Began  time.Duration // of Theirs
	Taken  time.Duration // when that process had told them the last of Theirs, and all before
	Steps  int           // missed events that change the state; set by Compare

	count  int // of the past when it was compared
	done   bool
	missed []Happened
	first  *state.Snapshot // the state before the first of the steps
	broken bool            // the steps do not lead from there to the topic's state
	ahead  []overlap.Mark
	equal  map[*state.Snapshot]*state.Snapshot // a client's copy, and one of the topic's that it equals
}

// Compare returns what the other process has yet to tell its subscribers, and the events that it
// has told them and that this one has yet to get. Times are the hub's. A recheck of access is
// rather told twice than not at all.
//
// A custom event that came before the topic has loaded is never missed: clients come only after the
// other process has handled all that was sent until then. If it has not told them that event, they
// have got the resource since.
func (s *Seam) Compare() (missed []Happened, ahead []overlap.Mark) {
	t := s.Topic
	var p past
	if t.past != nil {
		p = *t.past
	}
	if s.done && s.count == p.count {
		return s.missed, s.ahead
	}
	s.done, s.count = true, p.count
	s.missed, s.ahead = nil, nil
	ours := t.Marks(nil, 0)
	m, a := overlap.Compare(s.Theirs, ours, s.Began, custom)
	m = overlap.Again(m, ours, s.Taken, func(sum uint64) bool { return sum <= ReaccessSum(Gap) })
	s.Steps, s.broken = 0, false
	var last *state.Snapshot
	for _, i := range m {
		h := p.all[i]
		if h.ended {
			continue
		}
		s.missed = append(s.missed, h)
		if h.Event == nil || h.Event.Kind >= state.Delete {
			continue
		}
		if s.Steps++; s.Steps == 1 {
			s.first = h.Prev
		} else if h.Prev != last {
			s.broken = true
		}
		last = h.Event.Next
	}
	s.broken = s.broken || last != t.snap
	now := t.hub.Now()
	for _, i := range a {
		if s.Theirs[i].At > now-overlap.Apart && s.Theirs[i].Sum > ReaccessSum(Gap) {
			s.ahead = append(s.ahead, s.Theirs[i])
		}
	}
	return s.missed, s.ahead
}

// Leads reports whether the missed events lead from a client's copy to the topic's state.
func (s *Seam) Leads(copied *state.Snapshot) bool {
	return s.Steps > 0 && !s.broken && s.Same(copied, s.first)
}

// Same reports whether a client's copy equals a snapshot of the topic. Clients share their copies,
// so each is compared once.
func (s *Seam) Same(copied, snap *state.Snapshot) bool {
	if s.equal[copied] == snap && snap != nil {
		return true
	}
	if !copied.Equal(snap) {
		return false
	}
	if s.equal == nil {
		s.equal = make(map[*state.Snapshot]*state.Snapshot)
	}
	s.equal[copied] = snap
	return true
}
