package cache

import "time"

// Adjust changes Options.EvictAfter, EvictMost, MaxResource and UnusedBytes of a running shard,
// which must be started. Timers that run keep their end. Any goroutine may call it.
func (s *Shard) Adjust(evictAfter, evictMost time.Duration, maxResource, unusedBytes int) {
	s.Run(func() {
		s.opt.EvictAfter, s.opt.EvictMost, s.opt.MaxResource, s.opt.UnusedBytes = evictAfter, evictMost, maxResource, unusedBytes
		s.opt.defaults()
		if s.unused.limit > 0 { // otherwise memory is short, and Shed sets it
			s.unused.limit = s.opt.UnusedBytes
		}
	})
}
