package relay

import (
	"time"

	"sluice/internal/owner"
	"sluice/internal/res"
)

const (
	// DefaultRest is how long a name is kept after an edge has asked for it, whatever the memory:
	// edges that use more than fits would otherwise ask for what was just dropped, without a pause.
	DefaultRest = 10 * time.Second
	// maxNames bounds the names in one reset.
	maxNames = 256
)

// recency orders the names by when edges asked for them last.
type recency struct {
	first, last *name // the first is the next to go
	bytes       int   // of all topics
}

// use makes n the most recent name.
func (r *recency) use(n *name) {
	if r.last == n {
		return
	}
	r.remove(n)
	n.before, n.after = r.last, nil
	if r.last != nil {
		r.last.after = n
	} else {
		r.first = n
	}
	r.last = n
}

func (r *recency) remove(n *name) {
	switch {
	case n.before != nil:
		n.before.after = n.after
	case r.first == n:
		r.first = n.after
	default:
		return // not listed
	}
	if n.after != nil {
		n.after.before = n.before
	} else {
		r.last = n.before
	}
	n.before, n.after = nil, nil
}

// weigh counts the memory of a topic after a change.
func (f *front) weigh(t *topic) {
	if f.topics[t.ref] != t {
		return
	}
	bytes := topicBytes + len(t.n.name) + len(t.first)
	for _, a := range t.aliases {
		bytes += len(a)
	}
	if t.snap != nil {
		bytes += t.snap.Footprint()
	}
	d := bytes - t.bytes
	t.bytes = bytes
	t.n.bytes += d
	f.recency.bytes += d
	f.metrics.Bytes.Add(int64(d))
}

// evict drops the names that were asked for least recently while more memory is in use than may be.
// It goes on until a sixteenth is free, so that not every get evicts.
func (f *front) evict() {
	if f.recency.bytes <= f.limit {
		return
	}
	var names []string
	for n := f.recency.first; n != nil && f.recency.bytes > f.limit-f.limit/16; {
		if f.now()-n.asked < f.rest {
			break // the others were asked for later
		}
		next := n.after
		if n.evictable() {
			names = append(names, n.name)
			f.dropName(n)
		}
		n = next
	}
	if len(names) == 0 {
		return
	}
	f.metrics.Evictions.Add(uint64(len(names)))
	f.owed.evicted(names, f.now())
	f.resets.names(names, true)
}

// evictable reports whether no request waits for a topic of the name.
func (n *name) evictable() bool {
	for _, t := range n.topics {
		if t.snap == nil {
			return false
		}
	}
	return true
}

func (f *front) dropName(n *name) {
	for len(n.topics) > 0 {
		for _, t := range n.topics {
			f.shard.Cache.Unsubscribe(0, t.ref, n.name, t.first)
			f.drop(t)
			break
		}
	}
}

const (
	// resetPause is the least time between two resets of everything.
	resetPause = 10 * time.Second
	// doubtFor is how long edges may act on a reset: they have a throttle.
	doubtFor = time.Minute
)

// resets are the resets that the relay itself publishes.
type resets struct {
	f     *front
	next  time.Duration // no reset of everything before
	timer owner.Timer   // armed while one is due
}

// all has edges ask for everything again, and for all access.
func (r *resets) all() {
	f := r.f
	if r.timer.Armed() {
		return
	}
	wait := max(r.next-f.now(), 0)
	if wait > 0 {
		f.shard.Cache.Wheel().Schedule(&r.timer, f.now()+wait, owner.Func(func(time.Duration) {
			defer f.contain()
			r.publish()
		}))
		return
	}
	r.publish()
}

func (r *resets) publish() {
	f := r.f
	r.next = f.now() + resetPause
	f.owed.everything(f.now())
	f.metrics.Resets.Inc()
	f.send("system.reset", []byte(`{"resources":[">"],"access":[">"]}`))
}

// names has edges ask for some resources again, and with access for their access.
func (r *resets) names(names []string, access bool) {
	for len(names) > 0 {
		some := names[:min(len(names), maxNames)]
		names = names[len(some):]
		b := appendNames([]byte(`{"resources":[`), some)
		if access {
			b = appendNames(append(b, `],"access":[`...), some)
		}
		r.f.metrics.NameResets.Add(uint64(len(some)))
		r.f.send("system.reset", append(b, ']', '}'))
	}
}

func appendNames(b []byte, names []string) []byte {
	for i, n := range names {
		if i > 0 {
			b = append(b, ',')
		}
		b = res.AppendString(b, n)
	}
	return b
}
