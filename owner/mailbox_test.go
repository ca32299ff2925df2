package owner

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestMailboxLosesNoWakeUp has an owner that drains only when it was woken, in small and large portions. If
// a wake-up were lost the test would not end; each writer's messages must come in its order.
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

// TestMailboxCut stops a writer between the two steps of Put: newer messages are hidden until it goes on, and
// its going on wakes the owner.
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
	type message struct {
		a, b uint64
		p    *int
	}
	m := NewMailbox[message](func() {})
	f := func(message) {}
	run := func() {
		for range 100 {
			m.Put(message{})
		}
		m.Drain(1000, f)
	}
	run()
	// The pool of nodes drops some at random under the race detector, and all in a garbage collection.
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
