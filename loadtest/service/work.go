//go:build linux

package service

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Work is what a service does for each access and call request: one of Workers is busy for Each.
type Work struct {
	Workers int
	Each    time.Duration
}

// Worked is what a service was asked for, and how long its workers were busy in sum. Timers are
// late on a busy machine, so that may be more than Work says.
type Worked struct {
	Access, Calls, Gets int64
	Topics              struct{ Access, Gets int64 } // of these, the requests about topics
	Most                int64                        // access and call requests that were at the service at a time
	Busy                time.Duration
}

// workshop is the workers of a service. Any goroutine may use it.
type workshop struct {
	work  Work
	queue chan func()
	done  sync.WaitGroup

	access, calls, gets, waiting, most, busy atomic.Int64
	topicAccess, topicGets                   atomic.Int64
}

// queued bounds the requests at a service: far more than any gateway may have in flight.
const queued = 1 << 20

func newWorkshop(w Work) *workshop {
	s := &workshop{work: w, queue: make(chan func(), queued)}
	for range w.Workers {
		s.done.Go(s.run)
	}
	return s
}

func (s *workshop) run() {
	for reply := range s.queue {
		began := time.Now()
		time.Sleep(s.work.Each)
		s.busy.Add(int64(time.Since(began)))
		s.waiting.Add(-1)
		reply()
	}
}

// do queues a request. One goroutine at a time may call it, and not after close.
func (s *workshop) do(count *atomic.Int64, reply func()) {
	count.Add(1)
	for n := s.waiting.Add(1); ; {
		most := s.most.Load()
		if n <= most || s.most.CompareAndSwap(most, n) {
			break
		}
	}
	s.queue <- reply
}

// close ends the workers, and returns what they have done.
func (s *workshop) close() Worked {
	close(s.queue)
	s.done.Wait()
	return s.worked()
}

// worked returns what the workers have done so far.
func (s *workshop) worked() Worked {
	w := Worked{
		Access: s.access.Load(), Calls: s.calls.Load(), Gets: s.gets.Load(),
		Most: s.most.Load(), Busy: time.Duration(s.busy.Load()),
	}
	w.Topics.Access, w.Topics.Gets = s.topicAccess.Load(), s.topicGets.Load()
	return w
}

// Begin gives the service workers, and counts its requests from now on. Without it replies take no
// time.
func (s *NATS) Begin(w Work) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shop = newWorkshop(w)
}

// Asked returns what was asked since Begin.
func (s *NATS) Asked() Worked {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shop == nil {
		return Worked{}
	}
	return s.shop.worked()
}

// End takes the workers away again. It returns what was asked since Begin.
func (s *NATS) End() Worked {
	s.mu.Lock()
	shop := s.shop
	s.shop = nil
	s.mu.Unlock()
	if shop == nil {
		return Worked{}
	}
	return shop.close()
}

// answer replies to a request, or has a worker do it. which returns the count of its kind.
func (s *NATS) answer(reply func(), which func(*workshop) *atomic.Int64) {
	s.mu.Lock()
	defer s.mu.Unlock() // so that a workshop is not closed meanwhile
	if s.shop == nil {
		reply()
		return
	}
	s.shop.do(which(s.shop), reply)
}

// got counts a get request for load.<name>.
func (s *NATS) got(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shop != nil {
		s.shop.gets.Add(1)
		if isTopic(name) {
			s.shop.topicGets.Add(1)
		}
	}
}

// askedAccess counts an access request for load.<name>, if it is about a topic.
func (s *NATS) askedAccess(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shop != nil && isTopic(name) {
		s.shop.topicAccess.Add(1)
	}
}

// isTopic reports whether load.<name> is a topic.
func isTopic(name string) bool { return strings.HasPrefix(name, "t") }
