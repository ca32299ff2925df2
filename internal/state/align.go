package state

import (
	"sort"

	"sluice/internal/res"
)

// How an edit between two lists is found: see align.
const (
	// maxWork bounds the search, in steps of a few nanoseconds, so that a shard does not stand still for long.
	maxWork = 4 << 20
	// quickWork is how many steps for each value the first attempt may take.
	quickWork = 4
)

// align marks a common subsequence of x and y: the values that an edit keeps.
//
// The first attempt is Myers' algorithm on the values as they are: linear time when there are few edits, as there mostly
// are. If it takes too long, values are replaced by numbers, and those that only one list has leave the search: they
// are edits in any case, and were what made it long if a list was replaced by quite another one. What remains then are
// two lists of the same values in different order. Without repeated values, as nearly all collections are, the longest
// ascending run of places is the exact answer in O(n log n), see unique. Else Myers' algorithm runs until the budget is used
// up, and what is left is aligned by the values that are not repeated there.
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
		exact := myers[int32]{equal: func(v, w int32) bool { return v == w }, budget: d.budget, otherwise: u.align}
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

// numbered are two lists of values as numbers, without those that only one of them has, and where they were.
type numbered struct {
	x, y, atX, atY []int32
	size           int  // numbers are below
	repeated       bool // a number stands more than once in a list
}

func number(x, y []*res.Value) numbered {
	// What makes two values equal.
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

// myers is the linear-space form of Myers' algorithm ("An O(ND) Difference Algorithm and Its Variations", 1986): find
// the middle of a shortest edit by searching from both ends at once, then do both halves alike. Its time grows with the
// length times the number of edits.
type myers[T any] struct {
	equal  func(T, T) bool
	budget int // steps that may still be done
	// otherwise aligns what there is no budget for; nil: walk gives up.
	otherwise         func(x, y []T, keepX, keepY []bool)
	forward, backward search
}

// search is one direction's furthest paths. reach[k+shift] is how far into x the furthest path on diagonal k gets with
// the edits made so far, where k is the index in x minus the one in y. Odd and even diagonals take turns.
type search struct {
	reach  []int
	shift  int
	lo, hi int // diagonals reached with the current number of edits, every other one
}

// unreached is the place of a path on a diagonal that no path has got to.
const unreached = -1 << 40

// walk marks a longest common subsequence of x and y, as far as the budget goes. It returns false if it gave up.
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
		if m.otherwise == nil {
			return false
		}
		m.otherwise(x, y, keepX[:len(x)], keepY[:len(y)])
		return true
	}
	return m.walk(x[:i], y[:j], keepX[:i], keepY[:j]) && m.walk(x[i:], y[j:], keepX[i:], keepY[j:])
}

// widen moves on to the next number of edits from diagonal mid. Diagonals outside of the table of n by m are left out.
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

// middle finds a point (i,j) that a shortest edit from x to y goes through, neither its start nor its end. The lists
// differ in their first and in their last elements. ok is false if the budget did not last.
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

// unique aligns lists by the values that occur once in each.
type unique struct {
	counts []tally // by number; all zero between calls
}

// tally is how often a number occurs in each list, and where.
type tally struct{ inX, inY, atX int32 }

// align marks the longest common subsequence of the numbers that are unique on both sides, by way of the longest ascending
// run of their places: O(n log n).
func (u *unique) align(x, y []int32, keepX, keepY []bool) {
	for i, n := range x {
		u.counts[n].inX++
		u.counts[n].atX = int32(i)
	}
	for _, n := range y {
		u.counts[n].inY++
	}
	// tails[l] is the place in x with which the best run of length l+1 ends; before leads from each to the one before it.
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
