package cache

import (
	"time"

	"sluice/internal/owner"
	"sluice/internal/state"
)

// Info is what a shard knows of a resource, at one moment.
type Info struct {
	Name    string
	Queries int         // entries, the plain resource included
	Entries []EntryInfo // some of them, if there are many
}

// EntryInfo is what a shard knows of one value: a plain resource, or one normalised query of it.
type EntryInfo struct {
	Query     string
	State     string          // loading, current, refetching or waiting (entry.go)
	Snapshot  *state.Snapshot // immutable; nil while it loads
	Topics    []TopicInfo     // of the loops that follow it; some of them, if there are many
	Following int             // how many there are
	Events    float64         // per second, of late
	LastEvent string          // name; empty: none yet
	LastAge   time.Duration   // since then
}

// TopicInfo names the topic of a loop that follows an entry.
type TopicInfo struct {
	Loop int
	Ref  uint64 // fanout.Hub.Info
}

// seen is what an entry remembers of the events that it has applied.
type seen struct {
	rate owner.Rate
	last string // name
	at   time.Duration
}

// note remembers an event.
func (s *seen) note(event string, now time.Duration) {
	s.rate.Add(now, 1)
	s.last, s.at = event, now
}

// Inspect calls done on the shard's goroutine with what it knows of a resource, of which it lists
// at most n entries, and of each at most n topics. With one set, only the entry of query is listed.
// info is nil if the resource is not cached. Any goroutine may call it; done must not block.
func (s *Shard) Inspect(name, query string, one bool, n int, done func(info *Info)) {
	s.Run(func() {
		r := s.resources.Get(name)
		if r == nil {
			done(nil)
			return
		}
		info := &Info{Name: name, Queries: r.entries.len()}
		if one {
			if e, _ := r.find(query); e != nil {
				info.Entries = append(info.Entries, e.info(n))
			}
			done(info)
			return
		}
		for _, e := range r.entries.all() {
			if len(info.Entries) == n {
				break
			}
			info.Entries = append(info.Entries, e.info(n))
		}
		done(info)
	})
}

func (e *entry) info(n int) EntryInfo {
	now := e.r.s.now
	i := EntryInfo{Query: e.query, State: e.stateName(), Snapshot: e.snap, Following: len(e.subs.list)}
	for _, sb := range e.subs.list[:min(len(e.subs.list), n)] {
		i.Topics = append(i.Topics, TopicInfo{int(sb.loop), sb.ref})
	}
	if e.seen != nil {
		i.Events = e.seen.rate.PerSecond(now)
		i.LastEvent, i.LastAge = e.seen.last, now-e.seen.at
	}
	return i
}

func (e *entry) stateName() string {
	switch {
	case e.snap == nil:
		return "loading"
	case e.fetch != nil:
		return "refetching"
	case e.lost:
		return "waiting"
	}
	return "current"
}

// Discard drops what is cached of a resource, and calls done on the shard's goroutine. Entries
// without subscribers are evicted; the others are fetched again, and clients get the difference.
// Both counts are 0 if the resource is not cached. Any goroutine may call it; done must not block.
func (s *Shard) Discard(name string, done func(evicted, refetched int)) {
	s.Run(func() {
		evicted, refetched := 0, 0
		if r := s.resources.Get(name); r != nil {
			s.doubt.r = r
			for _, e := range r.sorted() {
				if len(e.subs.list) > 0 {
					e.reget()
					refetched++
					continue
				}
				s.metrics.Evictions.Add(1)
				e.drop(true)
				evicted++
			}
		}
		done(evicted, refetched)
	})
}

// Trace has f called on the shard's goroutine for each event that arrives, whether or not the
// resource is cached; nil ends that. f must not keep the payload. Only the shard's goroutine may
// call Trace: see Run.
func (s *Shard) Trace(f func(name, event string, payload []byte)) { s.traced = f }
