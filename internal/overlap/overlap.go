// Package overlap tells two processes apart that get the same events: which of them has handled
// which, when the work of one goes over to the other.
//
// Both note the events that they handle: what they say, as a checksum, and when. Events of one
// source come to both in the same order, but not at the same moment, and each of the two may have
// begun before the other. Two events that say the same are told apart by their times.
//
// It never sees an event, and keeps nothing.
package overlap

import (
	"math"
	"slices"
	"time"
)

// Mark stands for an event that was handled.
type Mark struct {
	Sum uint64        // of what it says
	At  time.Duration // since a moment that both processes share
}

// Apart is what is between the arrivals of one event at two processes at most. Events that say the
// same, further apart, are different ones.
const Apart = 10 * time.Second

// Compare compares what the other process has handled with what this one has, each in the order in
// which it was. It returns which of ours the other has yet to handle, and which of theirs have yet
// to come here, as indices in order. What only this one has from before began, when the other's
// list begins, the other has handled. Some of what only the other has may never come: it was sent
// before this process began.
//
// ordered says of which sums the events come to both in one order; nil: of none. What only this one
// has of these from before the first that both have, the other has handled, too: an event may come
// here a little later than there, so its time alone does not tell whether it was in their list.
// Their list may have events of before began, and a gap then: the same holds for what came here up
// to Doubt after began, and before the first that is in their list after began.
func Compare(theirs, ours []Mark, began time.Duration, ordered func(sum uint64) bool) (missed, ahead []int) {
	type both struct {
		theirs, ours []int
		shift        int
		found        bool // one is in both lists
	}
	sums := make(map[uint64]*both, len(ours))
	of := func(sum uint64) *both {
		if sums[sum] == nil {
			sums[sum] = new(both)
		}
		return sums[sum]
	}
	for i, m := range theirs {
		b := of(m.Sum)
		b.theirs = append(b.theirs, i)
	}
	for i, m := range ours {
		b := of(m.Sum)
		b.ours = append(b.ours, i)
	}
	first, since := -1, -1 // of ours that are ordered and have a partner; and one that came after began
	for sum, b := range sums {
		b.shift, b.found = align(theirs, ours, b.theirs, b.ours)
		if !b.found || ordered == nil || !ordered(sum) {
			continue
		}
		for k := max(0, -b.shift); k < len(b.theirs) && k+b.shift < len(b.ours); k++ {
			i := b.ours[k+b.shift]
			if first < 0 || i < first {
				first = i
			}
			if theirs[b.theirs[k]].At >= began && (since < 0 || i < since) {
				since = i
			}
		}
	}
	handled := func(i int) bool {
		m := ours[i]
		return ordered != nil && ordered(m.Sum) && (i < first || i < since && m.At < began+Doubt)
	}
	for _, b := range sums {
		shift, found := b.shift, b.found
		last := -1 // of ours that has a partner
		if found {
			last = len(b.theirs) - 1 + shift
		}
		for k, i := range b.ours {
			switch {
			case k <= last, handled(i):
			case found, ours[i].At >= began:
				missed = append(missed, i)
			}
		}
		for k, i := range b.theirs {
			if !found || k+shift >= len(b.ours) {
				ahead = append(ahead, i)
			}
		}
	}
	slices.Sort(missed)
	slices.Sort(ahead)
	return missed, ahead
}

// Doubt is how late the other process may have got what this one has got.
const Doubt = Apart / 2

// Again returns missed, as Compare has, and which of ours beside these the other process may have
// yet to handle: those that came here up to Doubt before taken, the end of its list. It is for
// events that are not told apart by what they say, which Compare may take for one another, and
// that are rather handled twice than not at all; alike says of which sums they are.
func Again(missed []int, ours []Mark, taken time.Duration, alike func(sum uint64) bool) []int {
	for i, m := range ours {
		if m.At >= taken-Doubt && alike(m.Sum) && !slices.Contains(missed, i) {
			missed = append(missed, i)
		}
	}
	slices.Sort(missed)
	return missed
}

// align returns by how many places the numbers of a sum's events differ between the two lists, so
// that their times fit best: number k of theirs is number k+shift of ours. found is false if none
// of them is in both.
func align(theirs, ours []Mark, t, o []int) (shift int, found bool) {
	best := math.Inf(1)
	for s := 1 - len(t); s < len(o); s++ {
		sum, n := 0.0, 0
		for k := max(0, -s); k < len(t) && k+s < len(o); k++ {
			sum += math.Abs(float64(theirs[t[k]].At - ours[o[k+s]].At))
			n++
		}
		if mean := sum / float64(n); mean < best && mean <= float64(Apart) {
			best, shift, found = mean, s, true
		}
	}
	return shift, found
}
