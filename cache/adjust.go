package cache

import "time"

// Adjust changes Options.EvictAfter and Options.MaxResource of a running shard, which must be
// started. Timers that run keep their end. Any goroutine may call it.
func (s *Shard) Adjust(evictAfter time.Duration, maxResource int) {
	s.Run(func() {
		s.opt.EvictAfter, s.opt.MaxResource = evictAfter, maxResource
		s.opt.defaults()
	})
}
