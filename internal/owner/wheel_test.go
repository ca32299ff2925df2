package owner

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// model is a wheel as simple as can be: a list that is searched.
type model struct {
	tick time.Duration
	at   map[int]int64 // armed timers: deadline in ticks, rounded up
}

func (m *model) schedule(id int, at time.Duration) {
	m.at[id] = int64(math.Ceil(float64(at) / float64(m.tick)))
}

func (m *model) due(now time.Duration) (ids []int) {
	for id, at := range m.at {
		if at <= int64(now/m.tick) {
			ids = append(ids, id)
		}
	}
	return ids
}

// TestWheelAgainstModel drives a wheel and the model with the same random schedule: deadlines from
// the past to months ahead, cancellations, re-arming, steps of time from nothing to years, and
// timers that schedule and cancel others, and themselves, when they fire.
func TestWheelAgainstModel(t *testing.T) {
	for seed := range uint64(60) {
		rnd := rand.New(rand.NewPCG(seed, 9))
		tick := []time.Duration{time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond}[seed%3]
		now := time.Duration(rnd.Int64N(int64(1000 * time.Hour)))
		w := NewWheel(tick, now)
		m := &model{tick, map[int]int64{}}
		timers := make([]Timer, 100)
		span := func() time.Duration { return time.Duration(rnd.Int64N(1 << (10 + rnd.IntN(43)))) }
		var fired []int
		var last int64
		nested := 0
		var expire func(id int) Func
		arm := func(id int, at time.Duration) {
			w.Schedule(&timers[id], at, expire(id))
			m.schedule(id, at)
		}
		expire = func(id int) Func {
			return func(got time.Duration) {
				if got != now {
					t.Fatalf("seed %d: Expire gets %v at %v", seed, got, now)
				}
				if timers[id].Armed() {
					t.Fatalf("seed %d: timer %d is armed while it fires", seed, id)
				}
				at, ok := m.at[id]
				if !ok || at > int64(now/tick) {
					t.Fatalf("seed %d: timer %d fires at tick %d, deadline %d (%v)", seed, id, now/tick, at, ok)
				}
				if at < last && nested == 0 {
					t.Fatalf("seed %d: timer %d of tick %d fires after one of tick %d", seed, id, at, last)
				}
				last = at
				delete(m.at, id)
				fired = append(fired, id)
				if other := rnd.IntN(len(timers)); rnd.IntN(3) == 0 {
					nested++ // a deadline set now may lie before those that have fired
					if rnd.IntN(2) == 0 {
						w.Cancel(&timers[other])
						delete(m.at, other)
					} else {
						arm(other, now+span()+tick)
					}
				}
			}
		}
		for range 2000 {
			id := rnd.IntN(len(timers))
			switch rnd.IntN(4) {
			case 0:
				arm(id, now+span()-span()/8)
			case 1:
				w.Cancel(&timers[id])
				delete(m.at, id)
			default:
				if rnd.IntN(3) == 0 {
					if at, ok := w.Next(); ok && at > now {
						now = at // as a Ticker would
					}
				} else {
					now += span()
				}
				due := m.due(now)
				// Timers that are late already fire first, in the order they were armed in: no
				// order is promised between them.
				fired, last, nested = nil, math.MinInt64, 0
				for _, id := range due {
					if m.at[id] <= w.present {
						nested = 1
					}
				}
				w.Advance(now)
				for _, id := range due {
					if _, still := m.at[id]; !slices.Contains(fired, id) && still && m.at[id] <= int64(now/tick) {
						t.Fatalf("seed %d: timer %d does not fire", seed, id)
					}
				}
			}
			for id := range timers {
				if _, ok := m.at[id]; ok != timers[id].Armed() {
					t.Fatalf("seed %d: timer %d: armed %v, want %v", seed, id, timers[id].Armed(), ok)
				}
			}
			checkNext(t, w, m)
		}
	}
}

// checkNext: Next is never late, always ahead of the present, and says if there is nothing.
func checkNext(t *testing.T, w *Wheel, m *model) {
	t.Helper()
	at, ok := w.Next()
	if ok != (len(m.at) > 0) {
		t.Fatalf("Next says %v with %d timers", ok, len(m.at))
	}
	if !ok {
		return
	}
	first := int64(math.MaxInt64)
	for _, at := range m.at {
		first = min(first, at)
	}
	got := int64(at / w.tick)
	if first <= w.present {
		if got > w.present {
			t.Fatalf("Next says tick %d, a timer is late since %d", got, first)
		}
		return
	}
	if got > first || got <= w.present || first-w.present <= 1 && got != first {
		t.Fatalf("Next says tick %d, the first deadline is %d, the present %d", got, first, w.present)
	}
}

// TestWheelIsExact follows Next only, as an owner that sleeps between deadlines does, and expects
// each timer in the very tick of its deadline after a few steps.
func TestWheelIsExact(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 2000 {
		now := time.Duration(rnd.Int64N(int64(24 * time.Hour)))
		w := NewWheel(time.Millisecond, now)
		d := time.Millisecond + time.Duration(rnd.Int64N(int64(time.Second)<<rnd.IntN(20)))
		var tm Timer
		var fired time.Duration = -1
		w.Schedule(&tm, now+d, Func(func(now time.Duration) { fired = now }))
		steps := 0
		for fired < 0 {
			at, ok := w.Next()
			if !ok {
				t.Fatal("lost")
			}
			steps++
			w.Advance(at)
		}
		if fired < now+d || fired >= now+d+time.Millisecond || steps > wheelLevels {
			t.Fatalf("due at %v, fired at %v after %d steps", now+d, fired, steps)
		}
	}
}

func TestWheelExtremes(t *testing.T) {
	w := NewWheel(0, 0)
	if w.tick != minTick {
		t.Errorf("tick %v", w.tick)
	}
	n := 0
	count := Func(func(time.Duration) { n++ })
	var never, past, again Timer
	w.Schedule(&never, math.MaxInt64, count)
	w.Schedule(&past, math.MinInt64, count)
	w.Schedule(&again, 0, Func(func(now time.Duration) {
		n++
		w.Schedule(&again, now, count) // late already: not before the next Advance
		w.Advance(now)                 // no effect from within
	}))
	w.Advance(0)
	if n != 2 || !again.Armed() || !never.Armed() || past.Armed() {
		t.Errorf("%d fired", n)
	}
	w.Advance(0)
	if n != 3 {
		t.Errorf("%d fired", n)
	}
	w.Advance(math.MaxInt64 - time.Hour)
	if n != 3 || !never.Armed() {
		t.Error("fired an hour early")
	}
	w.Advance(math.MaxInt64 - 3*time.Hour) // backwards: no effect
	w.Cancel(&never)
	w.Cancel(&never)
	if _, ok := w.Next(); ok {
		t.Error("an empty wheel has a deadline")
	}
}

func TestWheelDoesNotAllocate(t *testing.T) {
	w := NewWheel(time.Millisecond, 0)
	timers := make([]Timer, 1000)
	e := Func(func(time.Duration) {})
	now := time.Duration(0)
	if n := testing.AllocsPerRun(100, func() {
		for i := range timers {
			w.Schedule(&timers[i], now+time.Duration(i)*time.Millisecond*100, e)
		}
		for i := range timers[:500] {
			w.Cancel(&timers[i])
		}
		now += 60 * time.Second
		w.Advance(now)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkWheelSchedule(b *testing.B) {
	w := NewWheel(5*time.Millisecond, 0)
	timers := make([]Timer, 100000)
	e := Func(func(time.Duration) {})
	now := time.Duration(0)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		now += time.Microsecond
		w.Schedule(&timers[i%len(timers)], now+30*time.Second, e)
		if i%100 == 0 {
			w.Advance(now)
		}
	}
}
