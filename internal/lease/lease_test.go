package lease

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

const ttl = 5 * time.Second

// world runs processes in fake time. Messages take a while; processes pause, are cut off and start
// again.
type world struct {
	t     *testing.T
	rng   *rand.Rand
	now   time.Duration
	queue queue
	all   []*process
	most  time.Duration // the longest delay of a message
	made  int

	events  int
	holders int // processes that have held the lease
}

type process struct {
	w      *world
	name   string
	l      *Lease
	wake   time.Duration // when the process runs again after a pause
	inbox  []Message     // received during a pause
	cut    bool          // its messages are lost
	held   bool          // was it holding when it ran last?
	ended  bool
	serial int // of the pending tick

	latest map[*process]time.Duration // when the newest message to a process arrives
}

type event struct {
	at time.Duration
	n  int // orders those of one time
	do func()
}
type queue []event

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].at < q[j].at || q[i].at == q[j].at && q[i].n < q[j].n }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(e any)        { *q = append(*q, e.(event)) }
func (q *queue) Pop() any {
	e := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return e
}

func (w *world) after(d time.Duration, do func()) {
	w.events++
	heap.Push(&w.queue, event{w.now + d, w.events, do})
}

func (w *world) start() *process {
	w.made++
	p := &process{w: w, name: fmt.Sprintf("p%02d", w.made), latest: map[*process]time.Duration{}}
	p.l = New(p.name, ttl, w.now, func(m Message) {
		if p.cut {
			return
		}
		m, err := Decode(m.Encode())
		if err != nil {
			w.t.Fatal(err)
		}
		for _, to := range w.all {
			if !to.cut {
				at := max(w.now+time.Duration(w.rng.Int64N(int64(w.most))), p.latest[to]) // in order
				p.latest[to] = at
				w.after(at-w.now, func() { to.receive(m) })
			}
		}
	})
	w.all = append(w.all, p)
	p.tick()
	return p
}

func (p *process) receive(m Message) {
	if p.ended || p.cut {
		return
	}
	if p.w.now < p.wake {
		p.inbox = append(p.inbox, m)
		return
	}
	p.l.Hear(m, p.w.now)
	p.tick()
}

func (p *process) tick() {
	if p.ended {
		return
	}
	p.serial++
	serial := p.serial
	next := p.l.Tick(p.w.now)
	p.w.after(max(next-p.w.now, time.Millisecond), func() {
		if serial == p.serial && p.w.now >= p.wake {
			p.tick()
		}
	})
	if p.l.State() == Holding && !p.held {
		p.held = true
		p.w.holders++
	}
	if p.l.State() == Lost {
		p.ended = true // its process exits
	}
	p.w.check()
}

// acts reports whether the process may act, if it runs.
func (p *process) acts() bool {
	return !p.ended && p.l.State() == Holding && p.w.now < p.l.Until()
}

func (w *world) check() {
	var first *process
	for _, p := range w.all {
		if !p.acts() {
			continue
		}
		if first != nil {
			w.t.Fatalf("at %v both %s and %s hold the lease", w.now, first.name, p.name)
		}
		first = p
	}
}

// pause stops a process as SIGSTOP does: its messages wait.
func (p *process) pause(d time.Duration) {
	p.wake = p.w.now + d
	p.w.after(d, func() {
		if p.w.rng.IntN(2) == 0 {
			p.tick() // a timer may be handled before the messages
		}
		for _, m := range p.inbox {
			if p.ended {
				return
			}
			p.l.Hear(m, p.w.now)
		}
		p.inbox = nil
		p.tick()
	})
}

func (w *world) run(d time.Duration) {
	end := w.now + d
	for len(w.queue) > 0 && w.queue[0].at <= end {
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		e.do()
	}
	w.now = end
	w.check()
}

func (w *world) holder() *process {
	for _, p := range w.all {
		if p.acts() {
			return p
		}
	}
	return nil
}

// TestOneHolder: whatever pauses, cuts, stops and starts processes do, no two act at the same time,
// and one always acts a while after the last trouble.
func TestOneHolder(t *testing.T) {
	for seed := range uint64(200) {
		w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 1)), most: ttl / 11}
		for range 3 {
			w.start()
		}
		for range 60 {
			w.run(time.Duration(w.rng.Int64N(int64(2 * ttl))))
			p := w.all[w.rng.IntN(len(w.all))]
			switch w.rng.IntN(5) {
			case 0, 1:
				if !p.ended && w.now >= p.wake {
					p.pause(time.Duration(w.rng.Int64N(int64(3 * ttl))))
				}
			case 2:
				if h := w.holder(); h != nil && w.now >= h.wake {
					h.l.Stop(w.now)
					h.ended = true
				}
			case 3:
				p.cut = true // for good: this process never comes back
				w.after(3*ttl, func() { p.ended = true })
			}
			live := 0
			for _, p := range w.all {
				if !p.ended && !p.cut {
					live++
				}
			}
			if live < 2 {
				w.start()
			}
		}
		w.run(10 * ttl)
		if w.holder() == nil {
			t.Fatalf("seed %d: nobody holds the lease in the end", seed)
		}
		if w.holders < 3 {
			t.Fatalf("seed %d: the lease changed hands %d times only", seed, w.holders)
		}
	}
}

// TestTakeover: how long a takeover takes after a stop and after a crash.
func TestTakeover(t *testing.T) {
	for _, c := range []struct {
		name    string
		end     func(w *world, p *process)
		atLeast time.Duration
		atMost  time.Duration
	}{
		{"stop", func(w *world, p *process) { p.l.Stop(w.now); p.ended = true }, 0, ttl / 4},
		{"crash", func(_ *world, p *process) { p.ended = true }, ttl * 3 / 5, ttl*6/5 + time.Second/10},
	} {
		w := &world{t: t, rng: rand.New(rand.NewPCG(1, 1)), most: time.Millisecond}
		first := w.start()
		w.start()
		w.run(2 * ttl)
		if w.holder() != first {
			t.Fatalf("%s: the first process does not hold the lease", c.name)
		}
		c.end(w, first)
		w.run(c.atLeast)
		if c.atLeast > 0 && w.holder() != nil {
			t.Errorf("%s: taken over within %v", c.name, c.atLeast)
		}
		w.run(c.atMost - c.atLeast)
		if w.holder() == nil {
			t.Errorf("%s: not taken over within %v", c.name, c.atMost)
		}
	}
}

// TestRivals: two holders, as a partition makes them. When it ends, the one with the lower term
// gives way, and the other one knows.
func TestRivals(t *testing.T) {
	var out []Message
	hold := func(id string, term uint64) *Lease {
		l := New(id, ttl, 0, func(m Message) { out = append(out, m) })
		l.term = term - 1
		l.Tick(ttl)
		l.Hear(out[len(out)-1], ttl)
		l.Tick(ttl + l.window())
		if l.State() != Holding {
			t.Fatalf("%s is %v", id, l.State())
		}
		return l
	}
	for _, c := range []struct {
		a, b      string
		terms     [2]uint64
		aPrevails bool
	}{{"a", "b", [2]uint64{3, 2}, true}, {"a", "b", [2]uint64{2, 3}, false}, {"a", "b", [2]uint64{2, 2}, true}, {"b", "a", [2]uint64{2, 2}, false}} {
		a, b := hold(c.a, c.terms[0]), hold(c.b, c.terms[1])
		now := ttl + a.window()
		a.Hear(Message{Renewal, c.b, c.terms[1], 9}, now)
		b.Hear(Message{Renewal, c.a, c.terms[0], 9}, now)
		if won, lost := a.State() == Holding, a.State() == Lost; won != c.aPrevails || lost == c.aPrevails {
			t.Errorf("%v: a is %v", c, a.State())
		}
		if won := b.State() == Holding; won == c.aPrevails {
			t.Errorf("%v: b is %v", c, b.State())
		}
		if a.TakeRival() != c.aPrevails || b.TakeRival() == c.aPrevails || a.TakeRival() {
			t.Errorf("%v: the wrong one has a rival", c)
		}
	}
}

func TestDecode(t *testing.T) {
	for _, text := range []string{``, `{}`, `[]`, `{"kind":"renewal"}`, `{"kind":"x","id":"a"}`, `{"kind":"claim","id":"a","term":-1}`, `{"kind":"claim","id":1}`,
		`{"kind":"claim","id":"` + string(make([]byte, maxMessage)) + `"}`} {
		if m, err := Decode([]byte(text)); err == nil {
			t.Errorf("%q is %v", text, m)
		}
	}
	want := Message{Claim, "a", 1<<63 + 1, 7}
	if m, err := Decode(want.Encode()); err != nil || m != want {
		t.Errorf("%v, %v", m, err)
	}
}
