package cache

import (
	"time"

	"sluice/internal/owner"
	"sluice/internal/res"
	"sluice/internal/state"
)

// catchUpAfter is the interval at which the backlogs of slow loops are checked.
const catchUpAfter = 20 * time.Millisecond

// broadcast sends updates to the loops, and skips events for loops with a long backlog. It belongs
// to the shard's goroutine and knows no Shard.
type broadcast struct {
	loops    Loops
	limit    int // Options.BacklogLimit
	metrics  *Metrics
	timing   *timing
	doubt    *doubt
	laggards []laggards    // by loop
	catchUp  owner.Timer   // armed while a sub is behind
	arrived  time.Duration // when the event arrived that is handled; 0: none is, or one that was deferred
}

// laggards are the subs of one loop that have missed events. Some may have ended or caught up
// since.
type laggards struct{ list []*sub }

func (b *broadcast) post(sb *sub, u state.Update) {
	u.Ref = sb.ref
	b.loops.Post(int(sb.loop), u)
}

// deliver sends an event to an entry's subs; the entry's snapshot is the state after it. A loop
// whose backlog is too long gets no events of state: its subs are behind, and get the newest state
// once the backlog has fallen. Custom events for it are dropped, and their number is sent
// with the newest state. Delete events are always sent.
func (b *broadcast) deliver(e *entry, ev *state.Event) {
	b.metrics.EventsApplied.Add(1)
	for _, sb := range e.subs.list {
		if ev.Kind != state.Delete {
			backlog := b.loops.Backlog(int(sb.loop))
			if sb.behind && backlog <= b.limit/2 {
				b.sync(sb)
				if ev.Kind != state.Custom {
					continue // the newest state includes it
				}
			}
			if sb.behind || backlog > b.limit {
				if ev.Kind == state.Custom {
					b.metrics.CustomLost.Add(1)
					sb.lost++
				}
				b.setBehind(sb, true)
				continue
			}
		}
		b.post(sb, state.Update{Kind: state.Applied, Event: ev, At: b.arrived})
	}
}

// manySteps is the number of events from which on a difference is sent as one message. Single
// messages would fill a loop's mailbox and make the loop seem overloaded.
const manySteps = 1024

// deliverSteps sends a long difference to an entry's subs; the entry's snapshot is the state after
// it.
func (b *broadcast) deliverSteps(e *entry, steps []*state.Event) {
	b.metrics.EventsApplied.Add(int64(len(steps)))
	for _, sb := range e.subs.list {
		switch backlog := b.loops.Backlog(int(sb.loop)); {
		case sb.behind && backlog <= b.limit/2:
			b.sync(sb)
		case sb.behind || backlog > b.limit:
			b.setBehind(sb, true)
		default:
			b.post(sb, state.Update{Kind: state.Synced, Snapshot: e.snap, Steps: steps})
		}
	}
}

// deliverFailure sends an error to an entry's subs: it cannot be loaded or followed any more.
func (b *broadcast) deliverFailure(e *entry, err *res.Error) {
	for _, sb := range e.subs.list {
		b.post(sb, state.Update{Kind: state.Failed, Err: err})
	}
}

// deliverReaccess makes the loops recheck access, also those that wait for the entry to load.
func (b *broadcast) deliverReaccess(e *entry) {
	for _, sb := range e.subs.list {
		b.post(sb, state.Update{Kind: state.Reaccess})
	}
}

// sync brings a sub up to date.
func (b *broadcast) sync(sb *sub) {
	b.setBehind(sb, false)
	b.metrics.Synced.Add(1)
	lost := sb.lost
	sb.lost = 0
	b.post(sb, state.Update{Kind: state.Synced, Snapshot: sb.e.snap, Lost: int(lost)})
}

func (b *broadcast) setBehind(sb *sub, behind bool) {
	if sb.behind == behind {
		return
	}
	sb.behind = behind
	if !behind {
		b.metrics.Behind.Add(-1)
		return
	}
	b.metrics.Behind.Add(1)
	if !sb.listed {
		sb.listed = true
		at := &b.laggards[sb.loop]
		at.list = append(at.list, sb)
	}
	b.armCatchUp()
}

func (b *broadcast) armCatchUp() {
	if !b.catchUp.Armed() {
		b.timing.wheel.Schedule(&b.catchUp, b.timing.now+catchUpAfter, catchUp{b})
	}
}

// catchUp expires when the backlogs of slow loops are to be checked.
type catchUp struct{ b *broadcast }

// Expire brings the subs of each loop whose backlog has fallen up to date, as many as the backlog
// allows.
func (c catchUp) Expire(now time.Duration) {
	b := c.b
	left := false
	for loop := range b.laggards {
		at := &b.laggards[loop]
		for len(at.list) > 0 {
			last := len(at.list) - 1
			sb := at.list[last]
			if sb.behind {
				if b.loops.Backlog(loop) > b.limit/2 {
					break
				}
				b.doubt.r = sb.e.r
				b.sync(sb)
			}
			sb.listed = false
			at.list[last] = nil
			at.list = at.list[:last]
		}
		left = left || len(at.list) > 0
	}
	if left {
		b.timing.wheel.Schedule(&b.catchUp, now+catchUpAfter, c)
	}
}
