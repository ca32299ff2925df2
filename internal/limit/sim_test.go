package limit

import (
	"container/heap"
	"math/rand/v2"
	"testing"
	"time"
)

// sim is a gateway with one service, in fake time: clients whose requests wait in a Queue, and a
// service that works them off in the order of arrival with a number of workers.
type sim struct {
	t       *testing.T
	rng     *rand.Rand
	now     time.Duration
	events  events
	seq     int
	table   *Table
	service *Service
	queue   Queue[*job]

	workers    int                      // 0: any number
	takes      func(*job) time.Duration // in service
	turnaround time.Duration            // from a reply to what the gateway sends next
	timeout    time.Duration

	backlog []*job // at the service, not begun
	working int

	most, mostBacklog int // in flight; in the service's queue
	done              int
	ended             func(*job)
}

type job struct {
	kind     Kind
	client   uint64
	priority Priority
	made     time.Duration
	sent     time.Duration
	over     bool // timed out
	freed    bool
}

type event struct {
	at  time.Duration
	seq int
	do  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

func newSim(t *testing.T, o Options, workers int, each time.Duration) *sim {
	s := &sim{t: t, rng: rand.New(rand.NewPCG(1, 2)), now: time.Hour, table: NewTable(o), workers: workers, timeout: 3 * time.Second}
	s.service = s.table.Get("service.resource")
	s.turnaround = 200 * time.Microsecond
	s.takes = func(*job) time.Duration { return s.around(each) }
	return s
}

// around returns a time near d.
func (s *sim) around(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.8 + 0.4*s.rng.Float64()))
}

func (s *sim) after(d time.Duration, do func()) {
	s.seq++
	heap.Push(&s.events, event{s.now + d, s.seq, do})
}

// run handles what happens within d.
func (s *sim) run(d time.Duration) {
	end := s.now + d
	for len(s.events) > 0 && s.events[0].at <= end {
		e := heap.Pop(&s.events).(event)
		s.now = e.at
		e.do()
	}
	s.now = end
}

// ask makes a request.
func (s *sim) ask(j *job) {
	j.made = s.now
	s.service.Queue(0, j.priority)
	s.queue.Push(j.priority, j.client, j, func(*job) bool { return false })
	s.pump()
}

func (s *sim) pump() {
	for s.queue.Len() > 0 && s.service.TryAcquire(s.now) {
		j, p, _ := s.queue.Pop()
		s.service.Dequeue(p)
		s.send(j)
	}
	if s.queue.Len() == 0 {
		s.service.Emptied(0)
	}
}

func (s *sim) send(j *job) {
	j.sent = s.now
	s.backlog = append(s.backlog, j)
	s.after(s.timeout, func() {
		if !j.freed {
			j.over = true
			s.service.TimedOut()
			s.service.Lose(1)
			s.watch(j)
			s.pump()
		}
	})
	inFlight := int(s.service.State().InFlight)
	s.most = max(s.most, inFlight)
	if inFlight > s.table.bounds.Load().Max {
		s.t.Fatalf("%d requests in flight, the maximum is %d", inFlight, s.table.bounds.Load().Max)
	}
	s.work()
}

// watch frees the place of a request that timed out, when it is lost.
func (s *sim) watch(j *job) {
	s.after(100*time.Millisecond, func() {
		switch {
		case j.freed:
		case s.service.Passed(j.sent):
			s.free(j)
		default:
			s.watch(j)
		}
	})
}

func (s *sim) work() {
	s.mostBacklog = max(s.mostBacklog, len(s.backlog))
	for len(s.backlog) > 0 && (s.workers == 0 || s.working < s.workers) {
		j := s.backlog[0]
		s.backlog = s.backlog[1:]
		s.working++
		s.after(s.takes(j), func() {
			s.working--
			s.work()
			s.after(s.turnaround, func() { s.reply(j) })
		})
	}
}

func (s *sim) reply(j *job) {
	s.service.Replied(j.sent)
	if j.freed {
		return
	}
	s.service.Observe(j.kind, s.now-j.sent)
	s.done++
	over := j.over
	s.free(j)
	if s.ended != nil && !over {
		s.ended(j)
	}
}

func (s *sim) free(j *job) {
	j.freed = true
	if j.over {
		s.service.Lose(-1)
	}
	s.service.Release()
	s.pump()
}

// saturate keeps n requests waiting, from as many clients.
func (s *sim) saturate(n int, next func() *job) {
	before := s.ended
	s.ended = func(j *job) {
		if before != nil {
			before(j)
		}
		if j.priority == Access {
			s.ask(next())
		}
	}
	for range n {
		s.ask(next())
	}
}

func (s *sim) limit() int { return int(s.service.State().Limit) }
