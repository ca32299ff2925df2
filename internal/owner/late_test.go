package owner

import (
	"slices"
	"testing"
	"time"
)

// judged is a wheel with deadlines that note when they strike.
type judged struct {
	w   *Wheel
	now time.Duration
	at  map[string]time.Duration // when they struck
}

func newJudged() *judged {
	return &judged{w: NewWheel(5*time.Millisecond, time.Hour), now: time.Hour, at: map[string]time.Duration{}}
}

func (j *judged) expect(name string, d time.Duration) *Timer {
	t := new(Timer)
	j.w.Expect(t, j.now+d, Func(func(now time.Duration) { j.at[name] = now - time.Hour }))
	return t
}

// turn is a turn of the owner after d.
func (j *judged) turn(d time.Duration, behind bool, input ...func()) {
	j.now += d
	j.w.Advance(j.now)
	for _, f := range input {
		f()
	}
	j.w.Judge(j.now, behind)
}

// run has the owner run for d, with a turn whenever the wheel asks for one.
func (j *judged) run(d time.Duration) {
	for end := j.now + d; ; {
		at, ok := j.w.Next()
		if !ok || at > end {
			j.turn(end-j.now, false)
			return
		}
		j.turn(max(at-j.now, 0), false)
	}
}

func (j *judged) want(t *testing.T, name string, at time.Duration) {
	t.Helper()
	if got, ok := j.at[name]; !ok || got != at {
		t.Fatalf("%s struck at %v (%v), want %v", name, got, ok, at)
	}
}

func (j *judged) wantNone(t *testing.T) {
	t.Helper()
	if len(j.at) > 0 {
		t.Fatalf("struck: %v", j.at)
	}
}

func TestDeadlineStrikesInTime(t *testing.T) {
	j := newJudged()
	j.expect("short", 20*time.Millisecond)
	j.expect("long", 10*time.Second)
	j.run(10*time.Second - time.Millisecond)
	j.want(t, "short", 20*time.Millisecond)
	if len(j.at) != 1 {
		t.Fatalf("struck: %v", j.at)
	}
	j.run(time.Second)
	j.want(t, "long", 10*time.Second)
}

// The turn that finds a deadline passed may bring what was waited for.
func TestDeadlineIsJudgedBehindTheInput(t *testing.T) {
	j := newJudged()
	timer := j.expect("a", time.Second)
	j.run(time.Second - 5*time.Millisecond)
	j.turn(5*time.Millisecond, false, func() { j.w.Cancel(timer) })
	j.run(time.Minute)
	j.wantNone(t)
}

// An owner that did not run cannot know: it gets time to look, once.
func TestDeadlineOfALateTurn(t *testing.T) {
	j := newJudged()
	for name, d := range map[string]time.Duration{"early": time.Second, "late": time.Minute - time.Millisecond} {
		j.expect(name, d)
	}
	heard := j.expect("heard", 10*time.Second)
	j.turn(time.Minute, false)
	j.wantNone(t)
	j.turn(time.Second, false, func() { j.w.Cancel(heard) })
	j.wantNone(t)
	j.turn(time.Minute, true) // late again, and behind
	j.want(t, "early", 2*time.Minute+time.Second)
	j.want(t, "late", 2*time.Minute+time.Second)
	if len(j.at) != 2 {
		t.Fatalf("struck: %v", j.at)
	}
}

// A pause that begins shortly before the deadline, or ends shortly after it.
func TestDeadlineAtTheEdgeOfAPause(t *testing.T) {
	j := newJudged()
	j.expect("a", time.Second)
	j.run(time.Second - 5*time.Millisecond)
	j.turn(time.Minute, false)
	j.wantNone(t)
	j.run(Grace)
	j.want(t, "a", time.Minute+time.Second-5*time.Millisecond+Grace)

	j = newJudged()
	j.expect("b", time.Minute)
	j.turn(time.Minute+time.Millisecond, false)
	j.wantNone(t)
	j.run(Grace)
	if len(j.at) != 1 {
		t.Fatal("never struck")
	}
}

func TestDeadlineOfAnOwnerThatIsBehind(t *testing.T) {
	j := newJudged()
	j.expect("a", time.Second)
	j.run(time.Second - 5*time.Millisecond)
	j.turn(5*time.Millisecond, true)
	j.wantNone(t)
	j.run(Grace)
	j.want(t, "a", time.Second+Grace)
}

// A throttled process is late all the time. Its deadlines strike all the same.
func TestDeadlineOfAnOwnerThatIsAlwaysLate(t *testing.T) {
	j := newJudged()
	j.expect("a", time.Second)
	for range 20 {
		j.turn(3*Slack, true)
	}
	if at, ok := j.at["a"]; !ok || at > time.Second+Grace+6*Slack {
		t.Fatalf("struck at %v (%v)", at, ok)
	}
}

func TestDeadlineArmedAgainIsNew(t *testing.T) {
	j := newJudged()
	timer := j.expect("a", time.Second)
	j.turn(time.Minute, false) // put off
	j.w.Expect(timer, j.now+time.Second, Func(func(now time.Duration) { j.at["again"] = now - time.Hour }))
	j.turn(time.Minute, false) // put off anew
	j.wantNone(t)
	j.run(Grace)
	j.want(t, "again", 2*time.Minute+Grace)
	if timer.Armed() {
		t.Fatal("armed after it struck")
	}
}

func TestDeadlineThatHasPassedAlready(t *testing.T) {
	j := newJudged()
	j.expect("a", -time.Millisecond)
	j.turn(0, false)
	j.want(t, "a", 0)
}

// TestJudgeUntil: deadlines after the given time stay overdue, and keep their kind.
func TestJudgeUntil(t *testing.T) {
	const tick = time.Millisecond
	w := NewWheel(tick, 0)
	var timers [3]Timer
	var fired []int
	for i := range timers {
		w.Expect(&timers[i], time.Second+time.Duration(i)*tick, Func(func(time.Duration) { fired = append(fired, i) }))
	}
	for now := time.Duration(0); now <= time.Second+2*tick; now += tick {
		w.Advance(now)
	}
	if !w.JudgeUntil(time.Second+2*tick, time.Second+tick, false) || !slices.Equal(fired, []int{0, 1}) || !w.Overdue() {
		t.Fatalf("fired: %v", fired)
	}
	if w.Judge(time.Second+2*tick, true) || w.Overdue() || !timers[2].Armed() {
		t.Fatal("the last one was not put off")
	}
}
