package owner

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"weak"
)

// TestMailboxIsFreed: an owner is garbage as soon as nothing refers to it, although its mailbox has
// recycled nodes.
func TestMailboxIsFreed(t *testing.T) {
	type loop struct {
		mail  *Mailbox[int]
		woken int
	}
	use := func() weak.Pointer[loop] {
		l := new(loop)
		l.mail = NewMailbox[int](func() { l.woken++ })
		for n := range 100 {
			l.mail.Put(n)
			l.mail.Drain(0, func(int) {})
		}
		return weak.Make(l)
	}
	freed := make(chan weak.Pointer[loop]) // made on another stack, so that none here refers to it
	go func() { freed <- use() }()
	l := <-freed
	runtime.GC()
	if l.Value() != nil {
		t.Error("the owner outlives a garbage collection")
	}
}

// TestMailboxLosesNoWakeUp has an owner that drains only when it was woken, in small and large
// portions. If a wake-up were lost the test would not end; each writer's messages must come in its
// order.
func TestMailboxLosesNoWakeUp(t *testing.T) {
	type msg struct{ writer, n int }
	for _, portion := range []int{0, 1, 3, 1000} {
		const writers, each = 8, 20000
		wakes := make(chan struct{}, 1<<20)
		var outstanding atomic.Int64
		m := NewMailbox[msg](func() {
			if outstanding.Add(1) > 2 { // one being handled, one to come
				t.Error("more wake-ups than one per Drain")
			}
			wakes <- struct{}{}
		})
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for n := range each {
					m.Put(msg{w, n})
					if n%97 == 0 {
						runtime.Gosched()
					}
				}
			})
		}
		var next [writers]int
		for total := 0; total < writers*each; {
			select {
			case <-wakes:
			case <-time.After(20 * time.Second):
				t.Fatalf("portion %d: asleep with %d of %d messages handled, %d waiting", portion, total, writers*each, m.Len())
			}
			m.Drain(portion, func(g msg) {
				if g.n != next[g.writer] {
					t.Fatalf("writer %d: message %d came when %d was due", g.writer, g.n, next[g.writer])
				}
				next[g.writer]++
				total++
			})
			outstanding.Add(-1)
		}
		wg.Wait()
		if m.Len() != 0 {
			t.Errorf("%d messages left", m.Len())
		}
	}
}

// TestMailboxCut stops a writer between the two steps of Put: newer messages are hidden until it
// goes on, and its going on wakes the owner.
func TestMailboxCut(t *testing.T) {
	wakes := 0
	m := NewMailbox[int](func() { wakes++ })
	slow := &node[int]{msg: 1}
	m.count.Add(1)
	prev := m.newest.Swap(slow) // the slow writer has got so far
	m.Put(2)
	if wakes != 1 {
		t.Fatalf("%d wake-ups after Put, want 1", wakes)
	}
	var got []int
	take := func(n int) { got = append(got, n) }
	if m.Drain(10, take) || len(got) > 0 {
		t.Fatalf("handled %v through the cut", got)
	}
	prev.next.Store(slow)
	m.schedule()
	if wakes != 2 {
		t.Fatalf("%d wake-ups after the link, want 2", wakes)
	}
	if m.Drain(10, take); len(got) != 2 || got[0] != 1 || got[1] != 2 {
		t.Fatalf("handled %v, want 1 and 2", got)
	}
}

// TestMailboxInterleavings runs every order in which the atomic steps of two writers and the reader
// can follow each other, and many of those of four writers, and finds no message waiting when all
// are at rest.
func TestMailboxInterleavings(t *testing.T) {
	for _, portion := range []int{1, 2, 3} {
		// order is the run: who made the n-th step, by position among those who could. After each
		// run the last choice that has an alternative is changed.
		var order, options []int
		for runs := 1; ; runs++ {
			n := 0
			runModel(t, 2, portion, func(able int) int {
				if n == len(order) {
					order, options = append(order, 0), append(options, 0)
				}
				options[n] = able
				n++
				return order[n-1]
			})
			n--
			for n >= 0 && order[n] == options[n]-1 {
				n--
			}
			if n < 0 {
				t.Logf("portion %d: %d orders", portion, runs)
				break
			}
			order, options = order[:n+1], options[:n+1]
			order[n]++
		}
		rnd := rand.New(rand.NewPCG(uint64(portion), 1))
		for range 20000 {
			runModel(t, 4, portion, rnd.IntN)
		}
	}
}

// runModel runs one order; choose picks one of those who can make the next step.
func runModel(t *testing.T, writers, portion int, choose func(able int) int) {
	r := newModelRun(writers, portion)
	for {
		able := r.able()
		if len(able) == 0 {
			break
		}
		r.step(able[choose(len(able))])
	}
	if r.handled != writers {
		t.Fatalf("portion %d: %d of %d messages handled, all at rest", portion, r.handled, writers)
	}
}

// modelRun executes Put and Drain one atomic step at a time.
type modelRun struct {
	m       *Mailbox[int]
	portion int
	wakes   int // not yet answered by a Drain
	handled int
	writers []modelWriter
	pc      int // the reader's next step
	room    int // messages that the Drain may still take
}

type modelWriter struct {
	pc         int // next step; writerDone: none
	prev, node *node[int]
}

const (
	reader     = -1
	writerDone = 4
)

func newModelRun(writers, portion int) *modelRun {
	r := &modelRun{portion: portion, writers: make([]modelWriter, writers)}
	r.m = NewMailbox[int](func() { r.wakes++ })
	for i := range r.writers {
		r.writers[i].node = &node[int]{msg: i}
	}
	return r
}

// able lists who can make a step.
func (r *modelRun) able() (who []int) {
	for i := range r.writers {
		if r.writers[i].pc < writerDone {
			who = append(who, i)
		}
	}
	if r.pc > 0 || r.wakes > 0 {
		who = append(who, reader)
	}
	return who
}

// trySchedule is schedule in two steps: 0 is the load, 1 the swap. It returns whether it is done.
func (r *modelRun) trySchedule(step int) bool {
	if step == 0 {
		return r.m.scheduled.Load()
	}
	if r.m.scheduled.CompareAndSwap(false, true) {
		r.m.wake()
	}
	return true
}

func (r *modelRun) step(who int) {
	if who == reader {
		r.read()
		return
	}
	w := &r.writers[who]
	w.pc++
	switch w.pc {
	case 1:
		w.prev = r.m.enter(w.node)
	case 2:
		link(w.prev, w.node)
	default:
		if r.trySchedule(w.pc - 3) {
			w.pc = writerDone
		}
	}
}

// read makes a step of Drain.
func (r *modelRun) read() {
	r.pc++
	switch r.pc {
	case 1:
		r.wakes--
		r.m.scheduled.Store(false)
		r.room = r.portion
	case 2:
		if _, ok := r.m.take(); !ok {
			r.pc = 0
			return
		}
		r.handled++
		if r.room--; r.room > 0 {
			r.pc = 1
		}
	case 3:
		if r.m.empty() {
			r.pc = 0
		}
	default:
		if r.trySchedule(r.pc - 4) {
			r.pc = 0
		}
	}
}

// TestMailboxHandshake has each writer wait for its message to be handled before the next: a lost
// wake-up has no later one to make up for it.
func TestMailboxHandshake(t *testing.T) {
	const writers, each = 3, 20000
	wakes := make(chan struct{}, 4)
	m := NewMailbox[chan struct{}](func() { wakes <- struct{}{} })
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			ack := make(chan struct{})
			for range each {
				m.Put(ack)
				<-ack
			}
		})
	}
	handled := 0
	for handled < writers*each {
		select {
		case <-wakes:
		case <-time.After(20 * time.Second):
			t.Fatalf("asleep with %d messages waiting", m.Len())
		}
		m.Drain(0, func(ack chan struct{}) { handled++; ack <- struct{}{} })
	}
	wg.Wait()
}

func TestMailboxDrain(t *testing.T) {
	wakes := 0
	m := NewMailbox[int](func() { wakes++ })
	for i := range 10 {
		m.Put(i)
	}
	if wakes != 1 || m.Len() != 10 {
		t.Fatalf("%d wake-ups and %d messages, want 1 and 10", wakes, m.Len())
	}
	sum := 0
	if !m.Drain(4, func(n int) { sum += n }) || sum != 6 || wakes != 2 {
		t.Errorf("sum %d, %d wake-ups; want 6 and 2", sum, wakes)
	}
	// What is put while draining is handled in the same Drain if there is room.
	if m.Drain(7, func(n int) {
		if n == 4 {
			m.Put(100)
		}
		sum += n
	}) || sum != 145 {
		t.Errorf("sum %d, want 145", sum)
	}
	if m.Drain(0, func(int) { t.Error("a message out of nowhere") }) {
		t.Error("an empty mailbox has more")
	}
	// Without a maximum, a message that begets another does not keep Drain from ending.
	m.Put(1)
	if !m.Drain(0, func(n int) { m.Put(n + 1) }) {
		t.Error("the begotten message is not announced")
	}
}

// TestMailboxForgets: handled messages must not be kept alive by the list.
func TestMailboxForgets(t *testing.T) {
	m := NewMailbox[*int](func() {})
	m.Put(new(int))
	m.Drain(1, func(*int) {})
	if m.handed.msg != nil {
		t.Error("the message handled last is still referred to")
	}
}

func TestMailboxDoesNotAllocate(t *testing.T) {
	m := NewMailbox[[4]uint64](func() {})
	f := func([4]uint64) {}
	run := func() {
		for range 100 {
			m.Put([4]uint64{})
		}
		m.Drain(1000, f)
	}
	run()
	// The pool of nodes drops some at random under the race detector, and all in a garbage
	// collection.
	if n := testing.AllocsPerRun(500, run); n > 1 && !raceEnabled {
		t.Errorf("%v allocations for 100 messages", n)
	}
}

func BenchmarkMailbox(b *testing.B) {
	m := NewMailbox[[4]uint64](func() {})
	f := func([4]uint64) {}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		m.Put([4]uint64{})
		if i%64 == 0 {
			m.Drain(100, f)
		}
	}
}

// BenchmarkMailboxContended has all cores put and one owner drain.
func BenchmarkMailboxContended(b *testing.B) {
	wake := make(chan struct{}, 4)
	m := NewMailbox[[4]uint64](func() { wake <- struct{}{} })
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-wake:
				m.Drain(4096, func([4]uint64) {})
			case <-stop:
				return
			}
		}
	}()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			m.Put([4]uint64{})
		}
	})
	close(stop)
	<-done
}
