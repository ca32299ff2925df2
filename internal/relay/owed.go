package relay

import (
	"time"

	"sluice/internal/owner"
)

const (
	// maxOwed bounds the names that are remembered one by one, in each of owed's sets. Beyond it,
	// everything counts.
	maxOwed = 4096
	// Back-off between resets that are owed.
	owedFirst = 5 * time.Second
	owedMost  = time.Minute
)

// owed are the resets that edges still need, because a get after a reset by the relay found no
// service, or no room. An edge keeps its state then, and must ask again. It belongs to the front.
type owed struct {
	f     *front
	names map[string]struct{}
	all   bool
	timer owner.Timer // armed while a reset is owed
	wait  time.Duration
	since time.Duration // of the newest reset that was owed

	doubt  time.Duration            // until then edges may act on a reset of everything
	recent map[string]time.Duration // evicted names, and until when edges may act on their reset
}

// doubtful reports whether an edge may ask for a name only because of a reset by the relay. Then it
// would delete the resource if it learnt that there is no service now.
func (o *owed) doubtful(name string, now time.Duration) bool {
	return now < o.doubt || now < o.recent[name]
}

// everything records a reset of everything.
func (o *owed) everything(now time.Duration) {
	o.doubt = now + doubtFor
	o.recent = nil
	o.names, o.all = nil, false
	o.f.shard.Cache.Wheel().Cancel(&o.timer)
}

// evicted records the resets of some names.
func (o *owed) evicted(names []string, now time.Duration) {
	for name, until := range o.recent {
		if now >= until {
			delete(o.recent, name)
		}
	}
	if len(o.recent)+len(names) > maxOwed {
		o.doubt, o.recent = now+doubtFor, nil
		return
	}
	if o.recent == nil {
		o.recent = make(map[string]time.Duration)
	}
	for _, n := range names {
		o.recent[n] = now + doubtFor
	}
}

// add records that a name's reset is owed.
func (o *owed) add(name string) {
	switch {
	case o.all:
	case len(o.names) >= maxOwed:
		o.names, o.all = nil, true
	default:
		if o.names == nil {
			o.names = make(map[string]struct{})
		}
		o.names[name] = struct{}{}
	}
	if o.timer.Armed() {
		return
	}
	now := o.f.now()
	if o.wait == 0 || now > o.since+2*owedMost {
		o.wait = owedFirst
	}
	o.f.shard.Cache.Wheel().Schedule(&o.timer, now+o.wait, owner.Func(o.pay))
	o.wait = min(2*o.wait, owedMost)
}

// pay publishes the resets that are owed.
func (o *owed) pay(now time.Duration) {
	defer o.f.contain()
	o.since = now
	if o.all {
		o.f.resets.all()
		return
	}
	names := make([]string, 0, len(o.names))
	for n := range o.names {
		names = append(names, n)
	}
	o.names = nil
	o.evicted(names, now)
	o.f.resets.names(names, false)
}
