package state

import (
	"sort"

	"sluice/internal/res"
)

// Bounds on the search for an edit script; see align.
const (
	// maxWork bounds one search in steps of a few nanoseconds, so that a diff cannot stall its
	// shard.
	maxWork = 4 << 20
	// quickWork is the budget of the first attempt, in steps per value.
	quickWork = 4
)

// align marks a common subsequence of x and y: the values that the edit script keeps.
//
// The first attempt runs Myers' algorithm on the values themselves: linear time for few edits, the
// usual case. If that exceeds its budget, values are numbered, and values that only one list has
// are dropped from the search: they are edits in any case, and made it slow if one list replaced a
// different one. Two permutations of the same values remain. Without repeated values, which holds
// for nearly all collections, the longest increasing subsequence of positions is exact in
// O(n log n); see unique. Otherwise Myers' algorithm runs until the budget is used up, and the
// remainder is aligned by the values that are unique in it.
func (d *differ) align(x, y []*res.Value, keepX, keepY []bool) {
	quick := min(d.budget, quickWork*(len(x)+len(y))+1<<10)
	m := myers[*res.Value]{equal: func(v, w *res.Value) bool { return v.Equal(*w) }, budget: quick}
	done := m.walk(x, y, keepX, keepY)
	d.budget -= quick - max(m.budget, 0)
	if done {
		return
	}
	clear(keepX)
	clear(keepY)
	n := number(x, y)
	markX, markY := make([]bool, len(n.x)), make([]bool, len(n.y))
	u := unique{counts: make([]tally, n.size)}
	if n.repeated {
		exact := myers[int32]{equal: func(v, w int32) bool { return v == w }, budget: d.budget, fallback: u.align}
		exact.walk(n.x, n.y, markX, markY)
		d.budget = max(exact.budget, 0)
	} else {
		u.align(n.x, n.y, markX, markY)
	}
	for i, keep := range markX {
		keepX[n.atX[i]] = keep
	}
	for i, keep := range markY {
		keepY[n.atY[i]] = keep
	}
}

// numbered holds two lists of values as numbers, without the values that only one of them has, and
// the original positions.
type numbered struct {
	x, y, atX, atY []int32
	size           int  // all numbers are below size
	repeated       bool // a number occurs more than once in a list
}

func number(x, y []*res.Value) numbered {
	// identity is what makes two values equal (RES.md section 1).
	type identity struct {
		kind res.Kind
		text string
	}
	numbers := make(map[identity]int32, len(x)+len(y))
	list := func(vals []*res.Value) []int32 {
		out := make([]int32, len(vals))
		for i, v := range vals {
			id := identity{v.Kind, v.Raw}
			if v.Kind == res.Reference || v.Kind == res.SoftReference {
				id.text = v.RID
			}
			n, known := numbers[id]
			if !known {
				n = int32(len(numbers))
				numbers[id] = n
			}
			out[i] = n
		}
		return out
	}
	nx, ny := list(x), list(y)
	size := len(numbers)
	inX, inY := make([]bool, size), make([]bool, size)
	for _, n := range nx {
		inX[n] = true
	}
	for _, n := range ny {
		inY[n] = true
	}
	r := numbered{size: size}
	seen := make([]bool, size)
	filter := func(list []int32, other []bool) (out, at []int32) {
		out, at = make([]int32, 0, len(list)), make([]int32, 0, len(list))
		clear(seen)
		for i, n := range list {
			if other[n] {
				out, at = append(out, n), append(at, int32(i))
				r.repeated = r.repeated || seen[n]
				seen[n] = true
			}
		}
		return out, at
	}
	r.x, r.atX = filter(nx, inY)
	r.y, r.atY = filter(ny, inX)
	return r
}

// myers is the linear-space variant of Myers' algorithm ("An O(ND) Difference Algorithm and Its
// Variations", 1986): it finds the middle of a shortest edit script by searching from both ends
// simultaneously, then recurses into both halves. Time is O(length × edits).
type myers[T any] struct {
	equal  func(T, T) bool
	budget int // remaining steps
	// fallback aligns the remainder when the budget is used up; nil: walk gives up.
	fallback          func(x, y []T, keepX, keepY []bool)
	forward, backward search
}

// search holds the furthest-reaching paths of one direction. reach[k+shift] is the index in x that
// the path on diagonal k reaches with the current number of edits, where k is the index in x minus
// the index in y. Odd and even diagonals alternate.
type search struct {
	reach  []int
	shift  int
	lo, hi int // range of diagonals reached with the current number of edits; every other one is valid
}

// unreached marks a diagonal that no path has reached.
const unreached = -1 << 40

// walk marks a longest common subsequence of x and y within the budget. It reports whether it
// finished.
func (m *myers[T]) walk(x, y []T, keepX, keepY []bool) bool {
	from := 0
	for from < len(x) && from < len(y) && m.equal(x[from], y[from]) {
		keepX[from], keepY[from] = true, true
		from++
	}
	x, y, keepX, keepY = x[from:], y[from:], keepX[from:], keepY[from:]
	for len(x) > 0 && len(y) > 0 && m.equal(x[len(x)-1], y[len(y)-1]) {
		keepX[len(x)-1], keepY[len(y)-1] = true, true
		x, y = x[:len(x)-1], y[:len(y)-1]
	}
	if len(x) == 0 || len(y) == 0 {
		return true
	}
	i, j, ok := m.middle(x, y)
	if !ok {
		if m.fallback == nil {
			return false
		}
		m.fallback(x, y, keepX[:len(x)], keepY[:len(y)])
		return true
	}
	return m.walk(x[:i], y[:j], keepX[:i], keepY[:j]) && m.walk(x[i:], y[j:], keepX[i:], keepY[j:])
}

// widen advances to the next number of edits around diagonal mid. Diagonals outside the n×m table
// are skipped.
func (s *search) widen(mid, edits, n, m int) {
	lo, hi := mid-edits, mid+edits
	if lo < -m {
		lo += (-m - lo + 1) &^ 1
	}
	if hi > n {
		hi -= (hi - n + 1) &^ 1
	}
	if lo-1 < s.lo {
		s.reach[lo-1+s.shift] = unreached
	}
	if hi+1 > s.hi {
		s.reach[hi+1+s.shift] = unreached
	}
	s.lo, s.hi = lo, hi
}

func (s *search) start(diagonal, at, n, m int) {
	if size := n + m + 3; len(s.reach) < size {
		s.reach = make([]int, size)
	}
	s.shift = m + 1
	s.lo, s.hi = diagonal, diagonal
	s.reach[diagonal+s.shift] = at
}

// middle finds a point (i,j) on a shortest edit script from x to y that is neither its start nor
// its end. The lists must differ in their first and in their last elements. ok is false if the
// budget is used up.
func (m *myers[T]) middle(x, y []T) (i, j int, ok bool) {
	if m.budget < 0 {
		return 0, 0, false
	}
	w, h := len(x), len(y)
	delta := w - h
	odd := delta&1 != 0
	f, b := &m.forward, &m.backward
	f.start(0, 0, w, h)
	b.start(delta, w, w, h)
	for edits := 1; ; edits++ {
		f.widen(0, edits, w, h)
		for k := f.hi; k >= f.lo; k -= 2 {
			at := f.reach[k+1+f.shift] // one more of y
			if at < 0 || at-k > h {
				at = unreached
			}
			if left := f.reach[k-1+f.shift] + 1; left > at && left > 0 && left <= w && left-k <= h { // one more of x
				at = left
			}
			if at >= 0 {
				start := at
				for at < w && at-k < h && m.equal(x[at], y[at-k]) {
					at++
				}
				m.budget -= at - start
				if odd && k >= b.lo && k <= b.hi {
					if r := b.reach[k+b.shift]; r != unreached && r <= at {
						return at, at - k, true
					}
				}
			}
			f.reach[k+f.shift] = at
		}
		b.widen(delta, edits, w, h)
		for k := b.hi; k >= b.lo; k -= 2 {
			at := b.reach[k-1+b.shift]
			if at < 0 || at-k < 0 {
				at = unreached
			}
			if right := b.reach[k+1+b.shift] - 1; right >= 0 && right-k >= 0 && (at == unreached || right < at) {
				at = right
			}
			if at >= 0 {
				start := at
				for at > 0 && at-k > 0 && m.equal(x[at-1], y[at-k-1]) {
					at--
				}
				m.budget -= start - at
				if !odd && k >= f.lo && k <= f.hi {
					if r := f.reach[k+f.shift]; r != unreached && r >= at {
						return at, at - k, true
					}
				}
			}
			b.reach[k+b.shift] = at
		}
		if m.budget -= f.hi - f.lo + b.hi - b.lo + 4; m.budget < 0 {
			return 0, 0, false
		}
	}
}

// unique aligns lists by the values that occur exactly once in each.
type unique struct {
	counts []tally // by number; all zero between calls
}

// tally counts the occurrences of a number in each list, with its position in x.
type tally struct{ inX, inY, atX int32 }

// align marks the longest common subsequence of the numbers that are unique on both sides: the
// longest increasing subsequence of their positions, in O(n log n).
func (u *unique) align(x, y []int32, keepX, keepY []bool) {
	for i, n := range x {
		u.counts[n].inX++
		u.counts[n].atX = int32(i)
	}
	for _, n := range y {
		u.counts[n].inY++
	}
	// tails[l] is the position in x that ends the best run of length l+1; before links each
	// position to its predecessor.
	var tails []int
	before, partner := make([]int, len(x)), make([]int, len(x))
	for j, n := range y {
		c := u.counts[n]
		if c.inX != 1 || c.inY != 1 {
			continue
		}
		i := int(c.atX)
		partner[i] = j
		l := sort.SearchInts(tails, i)
		before[i] = -1
		if l > 0 {
			before[i] = tails[l-1]
		}
		if l == len(tails) {
			tails = append(tails, i)
		} else {
			tails[l] = i
		}
	}
	if len(tails) > 0 {
		for i := tails[len(tails)-1]; i >= 0; i = before[i] {
			keepX[i], keepY[partner[i]] = true, true
		}
	}
	for _, n := range x {
		u.counts[n] = tally{}
	}
	for _, n := range y {
		u.counts[n] = tally{}
	}
}
