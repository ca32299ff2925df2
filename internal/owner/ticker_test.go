package owner

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// TestTicker sleeps between wake-ups as an owner does, and expects every timer in its tick.
func TestTicker(t *testing.T) {
	rnd := rand.New(rand.NewPCG(2, 3))
	clock := NewManualClock()
	w := NewWheel(5*time.Millisecond, clock.Now())
	woken := 0
	var tk *Ticker
	var now time.Duration
	turn := func() { tk.Turn(&now); tk.Rearm() }
	tk = NewTicker(clock, w, func() { woken++; turn() })
	timers := make([]Timer, 200)
	fired := 0
	for range 500 {
		i := rnd.IntN(len(timers))
		at := clock.Now() + time.Duration(rnd.Int64N(int64(time.Minute)))
		w.Schedule(&timers[i], at, Func(func(now time.Duration) {
			fired++
			if now < at || now > at+5*time.Millisecond {
				t.Fatalf("due at %v, fired at %v", at, now)
			}
		}))
		if rnd.IntN(3) == 0 {
			w.Cancel(&timers[rnd.IntN(len(timers))])
		}
		turn()
		clock.Advance(time.Duration(rnd.Int64N(int64(time.Second))))
	}
	clock.Advance(time.Hour)
	if fired == 0 || woken > 3*fired+500 {
		t.Errorf("%d timers fired in %d wake-ups", fired, woken)
	}
	if at, ok := clock.Next(); ok {
		t.Errorf("an idle wheel has an alarm at %v", at)
	}
	before := woken
	w.Schedule(&timers[0], clock.Now()+time.Second, Func(func(time.Duration) {}))
	turn()
	tk.Stop()
	clock.Advance(time.Hour)
	if woken != before {
		t.Error("woken after Stop")
	}
	turn()
	if timers[0].Armed() {
		t.Error("a turn does not fire what is due")
	}
}

// TestTickerLeavesTheAlarmAlone: a time-out that is armed and cancelled in every turn costs one
// alarm.
func TestTickerLeavesTheAlarmAlone(t *testing.T) {
	clock := &countingClock{ManualClock: NewManualClock()}
	w := NewWheel(5*time.Millisecond, clock.Now())
	tk := NewTicker(clock, w, func() {})
	var tm Timer
	var now time.Duration
	for range 1000 {
		clock.Advance(time.Millisecond)
		tk.Turn(&now)
		w.Cancel(&tm)
		w.Schedule(&tm, clock.Now()+3*time.Second, Func(func(time.Duration) { t.Error("fired") }))
		tk.Rearm()
	}
	if clock.armed != 1 {
		t.Errorf("%d alarms for 1000 turns", clock.armed)
	}
}

type countingClock struct {
	*ManualClock
	armed int
}

func (c *countingClock) AfterFunc(d time.Duration, f func()) Alarm {
	c.armed++
	return c.ManualClock.AfterFunc(d, f)
}

func TestSystemClock(t *testing.T) {
	c := SystemClock()
	w := NewWheel(time.Millisecond, c.Now())
	wake := make(chan struct{}, 10)
	tk := NewTicker(c, w, func() { wake <- struct{}{} })
	var tm Timer
	start := c.Now()
	var now, fired time.Duration
	w.Schedule(&tm, start+20*time.Millisecond, Func(func(now time.Duration) { fired = now }))
	for fired == 0 {
		tk.Turn(&now)
		tk.Rearm()
		if fired == 0 {
			select {
			case <-wake:
			case <-time.After(20 * time.Second):
				t.Fatal("never woken")
			}
		}
	}
	if fired < start+20*time.Millisecond {
		t.Errorf("fired after %v", fired-start)
	}
	tk.Stop()
}

func TestManualClock(t *testing.T) {
	c := NewManualClock()
	start := c.Now()
	var got []time.Duration
	note := func() { got = append(got, c.Now()-start) }
	c.AfterFunc(3, note)
	a := c.AfterFunc(2, note)
	b := c.AfterFunc(1, func() { note(); c.AfterFunc(1, note) })
	c.AfterFunc(9, note).Stop()
	a.Reset(5)
	c.Advance(4)
	b.Reset(0)
	c.Advance(0)
	c.Advance(10)
	want := []time.Duration{1, 2, 3, 4, 5, 5}
	if len(got) != len(want) {
		t.Fatalf("alarms at %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("alarms at %v, want %v", got, want)
		}
	}
	if c.Now() != start+14 {
		t.Errorf("the clock stands at %v", c.Now()-start)
	}
}

// TestManualClockHandled: an alarm is handled when its owner has had its turn and has armed the
// next one.
func TestManualClockHandled(t *testing.T) {
	clock := NewManualClock()
	w := NewWheel(time.Millisecond, clock.Now())
	tk := NewTicker(clock, w, func() {})
	var now time.Duration
	var fired []time.Duration
	start := clock.Now()
	timer := new(Timer)
	w.Expect(timer, start+time.Second, Func(func(now time.Duration) { fired = append(fired, now-start) }))
	expect := func(want bool, when string) {
		t.Helper()
		if got := clock.Handled(); got != want {
			t.Errorf("%s: handled is %v", when, got)
		}
	}
	expect(true, "before the first turn")
	for len(fired) == 0 {
		tk.Turn(&now)
		expect(false, "in a turn")
		tk.Judge(now, false)
		tk.Rearm()
		expect(true, "after a turn")
		at, ok := clock.Next()
		if !ok {
			break
		}
		clock.Advance(at - clock.Now())
		expect(false, "after an alarm")
	}
	if len(fired) != 1 || fired[0] != time.Second {
		t.Errorf("fired at %v, want once at 1s", fired)
	}
	w.Schedule(timer, clock.Now()+time.Second, Func(func(time.Duration) {}))
	tk.Turn(&now)
	tk.Rearm()
	clock.Advance(time.Second)
	expect(false, "after the last alarm")
	tk.Stop()
	expect(true, "after Stop")
}

func TestThrottle(t *testing.T) {
	th := NewThrottle(2)
	var got []int
	for i := range 200 {
		th.Acquire(func() { got = append(got, i) })
	}
	if len(got) != 2 || th.Waiting() != 198 {
		t.Fatalf("%d granted, %d wait", len(got), th.Waiting())
	}
	for range 200 {
		th.Release()
	}
	for i, n := range got {
		if i != n {
			t.Fatalf("granted %v", got)
		}
	}
	if len(got) != 200 || th.running != 0 || th.Waiting() != 0 {
		t.Errorf("%d granted, %d running, %d wait", len(got), th.running, th.Waiting())
	}
	free := NewThrottle(0)
	n := 0
	for range 10 {
		free.Acquire(func() { n++ })
	}
	free.Release()
	if n != 10 {
		t.Errorf("%d of 10 granted without a limit", n)
	}
}

// TestThrottleConcurrently: never more than the limit at work, and everyone's turn comes.
func TestThrottleConcurrently(t *testing.T) {
	th := NewThrottle(3)
	var mu sync.Mutex
	running, most := 0, 0
	var all, workers sync.WaitGroup
	work := make(chan struct{}, 8000)
	for range 4 {
		workers.Go(func() {
			for range work {
				mu.Lock()
				running--
				mu.Unlock()
				th.Release()
				all.Done()
			}
		})
	}
	var asking sync.WaitGroup
	for range 8 {
		asking.Go(func() {
			for range 1000 {
				all.Add(1)
				th.Acquire(func() {
					mu.Lock()
					running++
					most = max(most, running)
					mu.Unlock()
					work <- struct{}{}
				})
			}
		})
	}
	asking.Wait()
	all.Wait()
	close(work)
	workers.Wait()
	if most > 3 || most == 0 {
		t.Errorf("%d at a time, the limit is 3", most)
	}
}

// TestTickerTellsTheTimeFirst: a timer that fires finds the present time with the owner.
func TestTickerTellsTheTimeFirst(t *testing.T) {
	clock := NewManualClock()
	w := NewWheel(5*time.Millisecond, clock.Now())
	tk := NewTicker(clock, w, func() {})
	var tm Timer
	var now, seen time.Duration
	w.Schedule(&tm, clock.Now()+time.Second, Func(func(time.Duration) { seen = now }))
	clock.Advance(time.Minute)
	tk.Turn(&now)
	if seen != clock.Now() || now != seen {
		t.Errorf("fired at %v, with %v as the owner's time", clock.Now(), seen)
	}
}

// TestWall: the time of day has no monotonic reading, so that it is compared by date; in a test it
// moves apart from the time that passes.
func TestWall(t *testing.T) {
	if w := SystemClock().Wall(); w != w.Round(0) || time.Since(w) > time.Hour {
		t.Errorf("%v has a monotonic reading, or is not the time of day", w)
	}
	c := NewManualClock()
	begin, ran := c.Wall(), false
	now := c.Now()
	c.AfterFunc(time.Minute, func() { ran = true })
	c.Jump(5 * time.Hour)
	if got := c.Wall().Sub(begin); got != 5*time.Hour || ran || c.Now() != now {
		t.Errorf("jumped by %v, an alarm ran: %v, now %v", got, ran, c.Now())
	}
	c.Jump(-8 * time.Hour)
	c.Advance(time.Minute)
	if got := c.Wall().Sub(begin); got != time.Minute-3*time.Hour || !ran {
		t.Errorf("at %v, an alarm ran: %v", got, ran)
	}
}
