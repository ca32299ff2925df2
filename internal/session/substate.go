package session

import "sluice/internal/invariants"

// subState is the state of a subscription. ARCHITECTURE.md shows the states
// and what moves a subscription between them as a table.
type subState uint8

const (
	// subLoading: the topic is loading, or queued for a place in a throttle, or
	// its result is in Session.loaded. The subscription has no edges of its own,
	// but for those of a copy that the client keeps (work.staleCopy). Ends when
	// the result is settled: subReady or subFailed.
	subLoading subState = iota
	// subReady: the resource is loaded and its references are followed; the client
	// does not hold it. Events are applied to the snapshot that will be sent. Ends
	// when a response or event includes it: subSent.
	subReady
	// subSent: the client holds the resource and gets its events. Ends when the
	// resource is deleted (subDeleted), or when the client can no longer reach it
	// and thus drops it (subReady, or subLoading if the topic is gone).
	subSent
	// subDeleted: the client holds the last copy of a resource that is deleted.
	// There is no topic. Ends when a request or reference needs it again: subLoading.
	subDeleted
	// subFailed: the resource could not be loaded; work.err says why. There is no
	// topic. Ends when a request or reference needs it again: subLoading.
	subFailed
	// subDisposed: the subscription is removed from the session. There is no topic.
	// It is final; callbacks of requests in flight check for it.
	subDisposed
)

var subStateNames = [...]string{"loading", "ready", "sent", "deleted", "failed", "disposed"}

func (st subState) String() string { return subStateNames[st] }

// subSources has for each state the states that a subscription enters it from.
var subSources = [...]uint8{
	subLoading:  1<<subLoading | 1<<subSent | 1<<subDeleted | 1<<subFailed,
	subReady:    1<<subLoading | 1<<subSent,
	subSent:     1 << subReady,
	subDeleted:  1<<subSent | 1<<subLoading | 1<<subReady | 1<<subFailed,
	subFailed:   1<<subLoading | 1<<subReady,
	subDisposed: 1<<subDisposed - 1,
}

// follows reports whether a subscription may enter st from the state from.
func (st subState) follows(from subState) bool { return subSources[st]&(1<<from) != 0 }

// to moves b to another state. Nothing else assigns Sub.state.
func (b *Sub) to(next subState) {
	if invariants.Enabled {
		invariants.Check(next.follows(b.state), "%s: subscription cannot go from %s to %s", b.rid, b.state, next)
	}
	if b.state == subLoading && b.s.env.loading != nil {
		delete(b.s.env.loading, b)
	}
	b.state = next
}
