package owner

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestFaultsAreCountedAndLoggedAtTimes(t *testing.T) {
	var text bytes.Buffer
	clock := NewManualClock()
	f := NewFaults(clock, slog.New(slog.NewTextHandler(&text, nil)))
	for range 3 {
		f.Note(Shard, "oops", "shard", 1)
	}
	if got := text.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "panic=oops") || !strings.Contains(got, "in=shard") ||
		!strings.Contains(got, "shard=1") || !strings.Contains(got, "TestFaultsAreCountedAndLoggedAtTimes") {
		t.Errorf("logged: %s", got)
	}
	f.Note(Loop, "other")
	clock.Advance(faultsEvery + time.Second)
	f.Note(Shard, "again")
	if got := text.String(); strings.Count(got, "\n") != 3 || !strings.Contains(got, "suppressed=2") {
		t.Errorf("logged: %s", got)
	}
	if f.Count(Shard) != 4 || f.Count(Loop) != 1 || f.Count(Handshake) != 0 {
		t.Errorf("counted %d, %d, %d", f.Count(Shard), f.Count(Loop), f.Count(Handshake))
	}
	(*Faults)(nil).Note(Loop, "nobody listens")
}

// panics reports whether f panics.
func panics(f func()) (did bool) {
	defer func() { did = recover() != nil }()
	f()
	return false
}

// What is due beside a timer whose Expire panics fires at the next Advance, and
// the wheel tells who it was.
func TestWheelSurvivesAPanic(t *testing.T) {
	w := NewWheel(time.Millisecond, 0)
	var fired []string
	var a, b, c, late Timer
	var bad Func = func(time.Duration) { panic("bad") }
	good := func(name string) Func { return func(time.Duration) { fired = append(fired, name) } }
	w.Schedule(&a, 5*time.Millisecond, bad)
	w.Schedule(&b, 5*time.Millisecond, good("b"))
	w.Schedule(&c, 6*time.Millisecond, good("c"))
	w.Schedule(&late, 9*time.Hour, good("late"))
	if !panics(func() { w.Advance(6 * time.Millisecond) }) {
		t.Fatal("no panic")
	}
	if w.Fired() == nil || a.Armed() {
		t.Error("the wheel does not tell whose timer panicked, or keeps it")
	}
	if at, ok := w.Next(); !ok || at > 6*time.Millisecond {
		t.Errorf("the next deadline is %v, %v", at, ok)
	}
	w.Advance(6 * time.Millisecond)
	if strings.Join(fired, " ") != "b c" {
		t.Errorf("fired %q", fired)
	}
	if w.Fired() != nil {
		t.Error("somebody is firing still")
	}
	w.Advance(10 * time.Hour)
	if strings.Join(fired, " ") != "b c late" {
		t.Errorf("fired %q", fired)
	}
}

// Messages behind one that panics are there for the next Drain.
func TestMailboxSurvivesAPanic(t *testing.T) {
	m := NewMailbox[int](func() {})
	var got []int
	f := func(n int) {
		if n == 1 {
			panic("bad")
		}
		got = append(got, n)
	}
	for n := range 4 {
		m.Put(n)
	}
	if !panics(func() { m.Drain(0, f) }) || m.Len() != 2 {
		t.Fatalf("%d are left", m.Len())
	}
	if m.Drain(0, f) || len(got) != 3 || got[1] != 2 || got[2] != 3 {
		t.Errorf("got %d", got)
	}
}
