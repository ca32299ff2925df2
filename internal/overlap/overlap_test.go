package overlap

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// marks returns the marks of events: each a letter that it says, and its time in seconds.
func marks(events ...any) (all []Mark) {
	for i := 0; i < len(events); i += 2 {
		at := events[i+1].(float64)
		all = append(all, Mark{uint64(events[i].(string)[0]), time.Duration(at * float64(time.Second))})
	}
	return all
}

func TestCompare(t *testing.T) {
	for name, c := range map[string]struct {
		theirs, ours  []Mark
		began         float64
		missed, ahead string
	}{
		"nothing":                              {},
		"the same":                             {theirs: marks("a", 1.0, "b", 2.0), ours: marks("a", 1.1, "b", 2.1)},
		"they are behind":                      {theirs: marks("a", 1.0), ours: marks("a", 1.1, "b", 2.1, "c", 2.2), missed: "[1 2]"},
		"we are behind":                        {theirs: marks("a", 1.0, "b", 2.0), ours: marks("a", 1.1), ahead: "[1]"},
		"we began later":                       {theirs: marks("a", 1.0, "b", 2.0), ours: marks("b", 2.1), ahead: "[0]"},
		"they began later":                     {theirs: marks("b", 2.0), ours: marks("a", 1.0, "b", 2.1), began: 1.5},
		"each has what the other lacks":        {theirs: marks("a", 1.0, "b", 1.0), ours: marks("a", 1.0, "c", 1.0), missed: "[1]", ahead: "[1]"},
		"they have none":                       {ours: marks("a", 1.0, "a", 2.0), missed: "[0 1]"},
		"we have none":                         {theirs: marks("a", 1.0, "a", 2.0), ahead: "[0 1]"},
		"the same words, they are behind":      {theirs: marks("a", 1.0, "a", 2.0), ours: marks("a", 1.0, "a", 2.0, "a", 3.0), missed: "[2]"},
		"the same words, we are behind":        {theirs: marks("a", 1.0, "a", 2.0, "a", 3.0), ours: marks("a", 1.0, "a", 2.0), ahead: "[2]"},
		"the same words, we began later":       {theirs: marks("a", 1.0, "a", 2.0, "a", 3.0), ours: marks("a", 2.0, "a", 3.0)},
		"the same words, later and behind":     {theirs: marks("a", 1.0, "a", 2.0, "a", 3.0), ours: marks("a", 2.01), ahead: "[2]"},
		"the same words long after each other": {theirs: marks("a", 1.0), ours: marks("a", 61.0), missed: "[0]", ahead: "[0]"},
		"slow, but known by what it says":      {theirs: marks("a", 1.0), ours: marks("a", 9.0)},
	} {
		missed, ahead := Compare(c.theirs, c.ours, seconds(c.began), nil)
		want := func(s string) string {
			if s == "" {
				return "[]"
			}
			return s
		}
		if fmt.Sprint(missed) != want(c.missed) || fmt.Sprint(ahead) != want(c.ahead) {
			t.Errorf("%s: missed %v, ahead %v", name, missed, ahead)
		}
	}
}

// An event that they have had and keep no longer came here a little later than there, after the
// beginning of what they keep. It is not missed, if what follows is in order.
func TestDroppedByThem(t *testing.T) {
	small := func(sum uint64) bool { return sum >= 'a' }
	for name, c := range map[string]struct {
		theirs, ours []Mark
		missed       string
	}{
		"one":                    {marks("b", 2.0, "c", 3.0), marks("a", 1.1, "b", 2.1, "c", 3.1), "[]"},
		"and one that they lack": {marks("b", 2.0), marks("a", 1.1, "b", 2.1, "c", 3.1), "[2]"},
		"not in order":           {marks("b", 2.0), marks("A", 1.1, "b", 2.1), "[0]"},
		"after one without":      {marks("A", 2.0), marks("a", 1.1, "A", 2.1), "[0]"},
		"nothing in common":      {marks("b", 2.0), marks("a", 1.1), "[0]"},
		"the first":              {marks("b", 2.0), marks("b", 2.1, "a", 2.2), "[1]"},
	} {
		if missed, _ := Compare(c.theirs, c.ours, seconds(1), small); fmt.Sprint(missed) != c.missed {
			t.Errorf("%s: missed %v, want %s", name, missed, c.missed)
		}
	}
	if missed, _ := Compare(marks("b", 2.0), marks("a", 1.1, "b", 2.1), seconds(1), nil); fmt.Sprint(missed) != "[0]" {
		t.Errorf("without an order: missed %v", missed)
	}
}

// Their list has an event of before it began, and lacks what came in between. That came here a
// little later than there, after they began anew. It is not missed, if what follows is in order.
func TestGapOfTheirs(t *testing.T) {
	small := func(sum uint64) bool { return sum >= 'a' }
	for name, c := range map[string]struct {
		theirs, ours []Mark
		missed       string
	}{
		"in the gap":           {marks("a", 1.0, "c", 3.0), marks("a", 1.1, "b", 2.1, "c", 3.1), "[]"},
		"the same words":       {marks("a", 1.0, "c", 3.0), marks("a", 1.1, "a", 2.1, "c", 3.1), "[]"},
		"and one after it":     {marks("a", 1.0, "c", 3.0), marks("a", 1.1, "b", 2.1, "c", 3.1, "d", 3.2), "[3]"},
		"nothing follows":      {marks("a", 1.0), marks("a", 1.1, "b", 2.1), "[1]"},
		"not in order":         {marks("a", 1.0, "c", 3.0), marks("a", 1.1, "B", 2.1, "c", 3.1), "[1]"},
		"too long after began": {marks("a", 1.0, "c", 8.0), marks("a", 1.1, "b", 7.1, "c", 8.1), "[1]"},
	} {
		if missed, _ := Compare(c.theirs, c.ours, seconds(2), small); fmt.Sprint(missed) != c.missed {
			t.Errorf("%s: missed %v, want %s", name, missed, c.missed)
		}
	}
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// Whatever part of a stream each of two processes has handled, the rest is found, event by event.
func TestCompareAtRandom(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		n := random.IntN(20)
		var stream []Mark
		at := 10 * time.Second
		for i := range n {
			at += time.Duration(random.IntN(400)) * time.Millisecond
			stream = append(stream, Mark{uint64(i), at})
		}
		begin := random.IntN(n + 1)
		theirEnd, ourEnd := begin+random.IntN(n+1-begin), begin+random.IntN(n+1-begin)
		var ours []Mark
		for _, m := range stream[begin:ourEnd] {
			ours = append(ours, Mark{m.Sum, m.At + time.Duration(random.IntN(2000))*time.Millisecond})
		}
		missed, ahead := Compare(stream[:theirEnd], ours, 0, nil)
		if want := numbers(theirEnd-begin, ourEnd-begin); fmt.Sprint(missed) != fmt.Sprint(want) {
			t.Fatalf("from %d, theirs to %d, ours to %d: missed %v, not %v", begin, theirEnd, ourEnd, missed, want)
		}
		ahead = slices.DeleteFunc(ahead, func(i int) bool { return i < begin }) // it never comes
		if want := numbers(ourEnd, theirEnd); fmt.Sprint(ahead) != fmt.Sprint(want) {
			t.Fatalf("from %d, theirs to %d, ours to %d: ahead %v, not %v", begin, theirEnd, ourEnd, ahead, want)
		}
	}
}

func numbers(from, to int) (all []int) {
	for i := from; i < to; i++ {
		all = append(all, i)
	}
	return all
}

// TestAgain: of two events that say the same, the one that the other process may have yet to handle
// is handled, though Compare takes them for one.
func TestAgain(t *testing.T) {
	taken := time.Minute
	for _, c := range []struct {
		at   time.Duration
		want []int
	}{
		{taken - Doubt - 1, nil},
		{taken - Doubt, []int{0}},
		{taken + 1, []int{0}},
	} {
		theirs, ours := []Mark{{7, taken - Doubt}}, []Mark{{7, c.at}, {8, c.at}}
		missed, _ := Compare(theirs, ours, taken, nil)
		got := Again(missed, ours, taken, func(sum uint64) bool { return sum == 7 })
		want := append(c.want, missed...) // of 8, if it came since
		if slices.Sort(want); !slices.Equal(got, slices.Compact(want)) {
			t.Errorf("%v: got %v, want %v", c.at, got, want)
		}
	}
	if got := Again([]int{0}, []Mark{{7, taken}}, taken, func(uint64) bool { return true }); !slices.Equal(got, []int{0}) {
		t.Errorf("what is missed in any case: %v", got)
	}
}
