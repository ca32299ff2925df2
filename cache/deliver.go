package cache

import (
	"time"

	"sluice/internal/state"
)

// catchUpAfter is how often loops that are behind are looked at.
const catchUpAfter = 20 * time.Millisecond

// laggards are the subs of one loop that have missed events. Some may have been forgotten or brought up to date since.
type laggards struct{ list []*sub }

func (s *Shard) post(sb *sub, u state.Update) {
	u.Ref = sb.ref
	s.loops.Post(sb.loop, u)
}

// deliver sends an event to an entry's subs; the entry's snapshot is the state after it. A loop with too long a backlog
// gets no events of state: each of its subs is marked as behind, and gets the newest state once the backlog has fallen.
// Custom events that it would have got meanwhile are counted only. That a resource is deleted is always told.
func (s *Shard) deliver(e *entry, ev *state.Event) {
	s.metrics.EventsApplied.Add(1)
	for _, sb := range e.subs.list {
		if ev.Kind != state.Delete {
			backlog := s.loops.Backlog(sb.loop)
			if sb.behind && backlog <= s.opt.BacklogLimit/2 {
				s.sync(sb)
				if ev.Kind != state.Custom {
					continue // the newest state has it
				}
			}
			if sb.behind || backlog > s.opt.BacklogLimit {
				if ev.Kind == state.Custom {
					s.metrics.CustomLost.Add(1)
				} else {
					s.setBehind(sb, true)
				}
				continue
			}
		}
		s.post(sb, state.Update{Kind: state.Applied, Event: ev})
	}
}

// manySteps is the number of events from which on a difference is handed over as a whole: as messages of their own they would
// fill a loop's mailbox, and make it look overloaded.
const manySteps = 1024

// deliverSteps sends a long difference to an entry's subs; the entry's snapshot is the state after it.
func (s *Shard) deliverSteps(e *entry, steps []*state.Event) {
	s.metrics.EventsApplied.Add(int64(len(steps)))
	for _, sb := range e.subs.list {
		switch backlog := s.loops.Backlog(sb.loop); {
		case sb.behind && backlog <= s.opt.BacklogLimit/2:
			s.sync(sb)
		case sb.behind || backlog > s.opt.BacklogLimit:
			s.setBehind(sb, true)
		default:
			s.post(sb, state.Update{Kind: state.Synced, Snapshot: e.snap, Steps: steps})
		}
	}
}

// sync brings a sub up to date.
func (s *Shard) sync(sb *sub) {
	s.setBehind(sb, false)
	s.metrics.Synced.Add(1)
	s.post(sb, state.Update{Kind: state.Synced, Snapshot: sb.e.snap})
}

func (s *Shard) setBehind(sb *sub, behind bool) {
	if sb.behind == behind {
		return
	}
	sb.behind = behind
	if !behind {
		s.metrics.Behind.Add(-1)
		return
	}
	s.metrics.Behind.Add(1)
	if !sb.listed {
		sb.listed = true
		at := &s.laggards[sb.loop]
		at.list = append(at.list, sb)
	}
	if !s.catchUp.Armed() {
		s.wheel.Schedule(&s.catchUp, s.now+catchUpAfter, catchUp{s})
	}
}

// catchUp looks after loops that are behind.
type catchUp struct{ s *Shard }

// Expire brings the subs of each loop whose backlog has fallen up to date, as many as the backlog allows.
func (c catchUp) Expire(now time.Duration) {
	s := c.s
	left := false
	for loop := range s.laggards {
		at := &s.laggards[loop]
		for len(at.list) > 0 {
			last := len(at.list) - 1
			sb := at.list[last]
			if sb.behind {
				if s.loops.Backlog(loop) > s.opt.BacklogLimit/2 {
					break
				}
				s.doubt.r = sb.e.r
				s.sync(sb)
			}
			sb.listed = false
			at.list[last] = nil
			at.list = at.list[:last]
		}
		left = left || len(at.list) > 0
	}
	if left {
		s.wheel.Schedule(&s.catchUp, now+catchUpAfter, c)
	}
}
