package limit

import (
	"slices"
	"strings"
	"testing"
	"time"
)

var bounds = Options{Max: 1000, Min: 8, Parts: 1}

// access returns access requests, each of another client.
func access() func() *job {
	client := uint64(0)
	return func() *job {
		client++
		return &job{kind: KindAccess, client: client, priority: Access}
	}
}

// A saturated service is kept busy, and its queue stays short.
func TestConverges(t *testing.T) {
	for _, c := range []struct {
		name    string
		workers int
		each    time.Duration
		backlog int // most requests in the service's queue, on average over time
	}{
		{"sequential", 1, 500 * time.Microsecond, 12},
		{"sequential and slow", 1, 50 * time.Millisecond, 12},
		{"few workers", 8, 2 * time.Millisecond, 24},
		{"slow workers", 8, 100 * time.Millisecond, 24},
		{"many workers", 64, 20 * time.Millisecond, 110},
		{"very many workers", 300, 50 * time.Millisecond, 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSim(t, bounds, c.workers, c.each)
			s.saturate(5000, access())
			s.run(15 * time.Second) // settles
			before, sum, samples := s.done, 0, 0
			for range 2000 { // some probes
				s.run(10 * time.Millisecond)
				sum += len(s.backlog)
				samples++
			}
			capacity := 20 * float64(c.workers) / c.each.Seconds()
			if got := float64(s.done - before); got < 0.9*capacity {
				t.Errorf("%.0f requests served of %.0f; limit %d", got, capacity, s.limit())
			}
			if mean := sum / samples; mean > c.backlog {
				t.Errorf("%d requests in the service's queue on average, want %d at most", mean, c.backlog)
			}
			t.Logf("limit %d, backlog %d, served %.0f %% of the capacity", s.limit(), sum/samples, 100*float64(s.done-before)/capacity)
		})
	}
}

// Slow requests are not taken for a queue: a service that works on any number of requests at a time
// gets as many as there are.
func TestSlowRequestsAreNoQueue(t *testing.T) {
	s := newSim(t, bounds, 0, 0)
	s.takes = func(j *job) time.Duration {
		if j.client%3 == 0 {
			return s.around(time.Second)
		}
		return s.around(10 * time.Millisecond)
	}
	s.saturate(5000, access())
	s.run(60 * time.Second)
	if s.limit() < 700 {
		t.Errorf("limit %d", s.limit())
	}
}

// A latency that has nothing to do with the service's queue, as of a network or a machine that is
// busy with something else, does not keep the service idle for long.
func TestLatencyIsNoQueue(t *testing.T) {
	s := newSim(t, bounds, 8, 2*time.Millisecond)
	s.saturate(5000, access())
	s.run(5 * time.Second)
	s.turnaround = 100 * time.Millisecond
	s.run(10 * time.Second)
	before := s.done
	s.run(10 * time.Second)
	if got, capacity := s.done-before, 40000; got < capacity*8/10 {
		t.Errorf("%d requests served of %d; limit %d", got, capacity, s.limit())
	}
}

// A service that becomes ten times slower keeps working at its capacity, without timeouts, and
// everything recovers with it.
func TestTenTimesSlower(t *testing.T) {
	const each = 2 * time.Millisecond
	s := newSim(t, bounds, 8, each)
	s.saturate(5000, access())
	s.run(30 * time.Second)
	for _, factor := range []time.Duration{10, 1, 10, 1} {
		s.takes = func(*job) time.Duration { return s.around(factor * each) }
		s.run(5 * time.Second)
		before := s.done
		s.run(20 * time.Second)
		capacity := 20 * 8 / (factor * each).Seconds()
		if got := float64(s.done - before); got < 0.85*capacity {
			t.Errorf("factor %d: %.0f requests served of %.0f; limit %d", factor, got, capacity, s.limit())
		}
		if len(s.backlog) > 40 {
			t.Errorf("factor %d: %d requests in the service's queue", factor, len(s.backlog))
		}
	}
	if n := s.service.State().Silent; n > 0 {
		t.Errorf("%d timeouts", n)
	}
}

// A service that stops gets no more than it has, though every request times out. When it works
// again, its queue is what it was, and everything goes on.
func TestStopsAndComesBack(t *testing.T) {
	const each = 2 * time.Millisecond
	s := newSim(t, bounds, 8, each)
	next := access()
	s.saturate(5000, next)
	s.run(10 * time.Second)
	s.mostBacklog = 0
	hung := true
	s.takes = func(*job) time.Duration {
		if hung {
			return time.Minute
		}
		return each
	}
	s.run(50 * time.Second)
	if s.mostBacklog > 150 {
		t.Errorf("%d requests in the queue of a service that does not reply", s.mostBacklog)
	}
	hung = false
	s.run(20 * time.Second)
	before := s.done
	s.run(10 * time.Second)
	if got, capacity := s.done-before, 40000; got < capacity*8/10 {
		t.Errorf("%d requests served of %d; limit %d, %d lost", got, capacity, s.limit(), s.service.lost.Load())
	}
}

// Requests that a service has lost do not hold their places: it restarts with an empty queue.
func TestLostRequests(t *testing.T) {
	s := newSim(t, bounds, 8, 2*time.Millisecond)
	s.saturate(5000, access())
	s.run(10 * time.Second)
	s.takes = func(*job) time.Duration { return 24 * time.Hour } // never
	s.run(5 * time.Second)
	s.backlog, s.working = nil, 0
	s.takes = func(*job) time.Duration { return 2 * time.Millisecond }
	s.run(10 * time.Second)
	before := s.done
	s.run(10 * time.Second)
	if got := s.done - before; got < 32000 {
		t.Errorf("%d requests served; limit %d, %d lost", got, s.limit(), s.service.lost.Load())
	}
}

// A call overtakes what waits in the queue, and finds a short one at the service, which is kept
// busy all the same. That holds for any time that requests are on the way.
func TestCallsOvertake(t *testing.T) {
	for _, turnaround := range []time.Duration{200 * time.Microsecond, time.Millisecond, 5 * time.Millisecond} {
		t.Run(turnaround.String(), func(t *testing.T) {
			s := newSim(t, bounds, 8, 2*time.Millisecond)
			s.turnaround = turnaround
			s.timeout = time.Minute
			var latencies []time.Duration
			s.ended = func(j *job) {
				if j.priority == Call {
					latencies = append(latencies, s.now-j.made)
				}
			}
			measure := func() time.Duration {
				latencies = nil
				for range 1000 {
					s.ask(&job{kind: KindCall, client: 1 << 40, priority: Call})
					s.run(10 * time.Millisecond)
				}
				slices.Sort(latencies)
				return latencies[len(latencies)*99/100]
			}
			idle := measure()
			s.saturate(19000, access())
			s.run(3 * time.Second)
			before, began := s.done, s.now
			if busy := measure(); busy > 9*idle/4 {
				t.Errorf("99 %% of the calls took up to %v, and %v when idle; limit %d", busy, idle, s.limit())
			}
			if got, capacity := float64(s.done-before), 4000*(s.now-began).Seconds(); got < 0.95*capacity {
				t.Errorf("%.0f requests served of %.0f; limit %d", got, capacity, s.limit())
			}
		})
	}
}

// The maximum and the minimum bound the limit, whatever happens.
func TestBounds(t *testing.T) {
	for _, o := range []Options{{Max: 1, Min: 1, Parts: 1}, {Max: 5, Min: 50, Parts: 1}, {Max: 20, Min: 20, Parts: 1}, {Max: 1000, Min: 1, Parts: 1}} {
		s := newSim(t, o, 8, 20*time.Millisecond) // checks the maximum
		s.saturate(500, access())
		s.run(30 * time.Second)
		s.takes = func(*job) time.Duration { return 10 * time.Second }
		s.run(60 * time.Second)
		if got := s.limit(); got < 1 || got > o.Max {
			t.Errorf("%+v: limit %d", o, got)
		}
		if s.done == 0 {
			t.Errorf("%+v: nothing was served", o)
		}
	}
}

// A request whose service has asked for more time leaves its place to others, up to the maximum.
func TestExtended(t *testing.T) {
	table := NewTable(Options{Max: 10, Min: 2, Parts: 1})
	s := table.Get("a.b")
	s.limit.Store(2)
	for n := range 10 {
		if !s.TryAcquire(0) {
			t.Fatalf("no place with %d extended requests", n)
		}
		s.Extend(1)
	}
	if s.TryAcquire(0) {
		t.Error("a place beyond the maximum")
	}
	s.Extend(-1)
	s.Release()
	if !s.TryAcquire(0) {
		t.Error("no place after a release")
	}
}

// New bounds hold for the services that are known, with the next request; without a limit every
// request has a place.
func TestAdjust(t *testing.T) {
	table := NewTable(Options{Max: 4, Min: 4, Parts: 1})
	s := table.Get("a.b")
	places := func() (n int) {
		for s.TryAcquire(0) {
			if n++; n == 100 {
				return n
			}
		}
		return n
	}
	if n := places(); n != 4 {
		t.Fatalf("%d places, want 4", n)
	}
	table.Adjust(Options{Max: 10, Min: 10})
	if n := places(); n != 6 || s.State().Limit != 10 {
		t.Errorf("%d further places, limit %d, want 10 in all", n, s.State().Limit)
	}
	table.Adjust(Options{Max: 2, Min: 8})
	if n := places(); n != 0 || s.State().Limit != 2 {
		t.Errorf("%d places of a full service, limit %d", n, s.State().Limit)
	}
	table.Adjust(Options{})
	if n := places(); n != 100 || table.Get("c") != nil {
		t.Errorf("%d places without a limit", n)
	}
	table.Each(func(*Service) { t.Error("a service without a limit is listed") })
	for range 110 {
		s.Release()
	}
	table.Adjust(Options{Max: 3, Min: 3})
	if n := places(); n != 3 {
		t.Errorf("%d places, want 3 again", n)
	}
}

func TestTable(t *testing.T) {
	table := NewTable(Options{Max: 10, Min: 1, Parts: 2})
	a := table.Get("a.b.c.d")
	if b := table.Get("a.b.x"); b != a || a.Name() != "a.b" {
		t.Errorf("%q and %q", a.Name(), b.Name())
	}
	if c := table.Get("a"); c == a || c.Name() != "a" {
		t.Errorf("service of a short name: %q", c.Name())
	}
	for i := range 10 * maxServices {
		name := "x." + string(rune('a'+i%26)) + string(rune('A'+i/26%26)) + string(rune('0'+i/676))
		table.Get(name).Drop()
	}
	if n := len(*table.services.Load()); n > maxServices {
		t.Errorf("%d services", n)
	}
	if again := table.Get("a.b"); again != a {
		t.Error("a service in use was evicted")
	}
	table.Each(func(s *Service) { t.Errorf("%q was never heard of", s.Name()) })
	a.Replied(1)
	table.Each(func(s *Service) {
		if s != a {
			t.Errorf("%q was never heard of", s.Name())
		}
	})
	if long := table.Get(strings.Repeat("x", 100)); long.Name() != "" {
		t.Errorf("a name of %d bytes has a limit of its own", len(long.Name()))
	}
	var held []*Service
	for i := range 2 * maxServices {
		name := "y." + string(rune('a'+i%26)) + string(rune('A'+i/26))
		held = append(held, table.Get(name))
	}
	if last := held[len(held)-1]; last.Name() != "" {
		t.Errorf("the table has no room, yet %q has a limit of its own", last.Name())
	}
	for _, s := range held {
		s.Drop()
	}
	if s := table.Get("z.z"); s.Name() != "z.z" {
		t.Error("idle services make no room")
	}
}
