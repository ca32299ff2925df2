package state

import "sort"

// maxWork bounds the search for the shortest edit, in steps of a few nanoseconds: a shard must not stand still for longer
// than some ten milliseconds.
const maxWork = 4 << 20

// align marks a common subsequence of x and y: the elements that an edit keeps.
//
// It is the linear-space form of Myers' algorithm ("An O(ND) Difference Algorithm and Its Variations", 1986): find the
// middle of a shortest edit by searching from both ends at once, then do both halves alike. Its time grows with the
// length times the number of edits, so two long lists in quite different order would take it quadratic time. When the
// budget is used up, what is left is aligned by alignUnique instead: for lists without repeated values, which
// nearly all collections are, that is just as short.
func (d *differ) align(x, y []int, keepX, keepY []bool) {
	var forward, backward search
	var walk func(x, y []int, keepX, keepY []bool)
	walk = func(x, y []int, keepX, keepY []bool) {
		for len(x) > 0 && len(y) > 0 && x[0] == y[0] {
			keepX[0], keepY[0] = true, true
			x, y, keepX, keepY = x[1:], y[1:], keepX[1:], keepY[1:]
		}
		for len(x) > 0 && len(y) > 0 && x[len(x)-1] == y[len(y)-1] {
			keepX[len(x)-1], keepY[len(y)-1] = true, true
			x, y = x[:len(x)-1], y[:len(y)-1]
		}
		if len(x) == 0 || len(y) == 0 {
			return
		}
		if size := len(x) + len(y) + 3; len(forward.reach) < size {
			forward.reach, backward.reach = make([]int, size), make([]int, size)
		}
		i, j, ok := d.middle(x, y, &forward, &backward)
		if !ok {
			alignUnique(x, y, keepX, keepY)
			return
		}
		walk(x[:i], y[:j], keepX, keepY)
		walk(x[i:], y[j:], keepX[i:], keepY[j:])
	}
	walk(x, y, keepX, keepY)
}

// unreached is the place of a path on a diagonal that no path has got to.
const unreached = -1 << 40

// search is one direction's furthest paths. reach[k+shift] is how far into x the furthest path on diagonal k gets with
// the edits made so far, where k is the index in x minus the one in y. Odd and even diagonals take turns.
type search struct {
	reach  []int
	shift  int
	lo, hi int // diagonals reached with the current number of edits, every other one
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

// middle finds a point (i,j) that a shortest edit from x to y goes through, neither its start nor its end. The lists
// differ in their first and in their last elements. ok is false if the budget did not last. f and b are scratch.
func (d *differ) middle(x, y []int, f, b *search) (i, j int, ok bool) {
	n, m := len(x), len(y)
	delta := n - m
	odd := delta&1 != 0
	f.shift, f.lo, f.hi, f.reach[m+1] = m+1, 0, 0, 0
	b.shift, b.lo, b.hi, b.reach[delta+m+1] = m+1, delta, delta, n
	for edits := 1; ; edits++ {
		f.widen(0, edits, n, m)
		for k := f.hi; k >= f.lo; k -= 2 {
			at := f.reach[k+1+f.shift] // one more of y
			if at < 0 || at-k > m {
				at = unreached
			}
			if left := f.reach[k-1+f.shift] + 1; left > at && left > 0 && left <= n && left-k <= m { // one more of x
				at = left
			}
			if at >= 0 {
				start := at
				for at < n && at-k < m && x[at] == y[at-k] {
					at++
				}
				d.budget -= at - start
				if odd && k >= b.lo && k <= b.hi {
					if r := b.reach[k+b.shift]; r != unreached && r <= at {
						return at, at - k, true
					}
				}
			}
			f.reach[k+f.shift] = at
		}
		b.widen(delta, edits, n, m)
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
				for at > 0 && at-k > 0 && x[at-1] == y[at-k-1] {
					at--
				}
				d.budget -= start - at
				if !odd && k >= f.lo && k <= f.hi {
					if r := f.reach[k+f.shift]; r != unreached && r >= at {
						return at, at - k, true
					}
				}
			}
			b.reach[k+b.shift] = at
		}
		if d.budget -= f.hi - f.lo + b.hi - b.lo + 4; d.budget < 0 {
			return 0, 0, false
		}
	}
}

// alignUnique marks the longest common subsequence of the values that occur once in each list, by the longest ascending
// run of their places: O(n log n).
func alignUnique(x, y []int, keepX, keepY []bool) {
	type place struct{ count, at int }
	inX, inY := make(map[int]place, len(x)), make(map[int]place, len(y))
	for i, v := range x {
		inX[v] = place{inX[v].count + 1, i}
	}
	for j, v := range y {
		inY[v] = place{inY[v].count + 1, j}
	}
	// tails[l] is the place in x with which the best run of length l+1 ends; before links each run to its start.
	var tails []int
	before, partner := make([]int, len(x)), make([]int, len(x))
	for j, v := range y {
		if inY[v].count != 1 || inX[v].count != 1 {
			continue
		}
		i := inX[v].at
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
	if len(tails) == 0 {
		return
	}
	for i := tails[len(tails)-1]; i >= 0; i = before[i] {
		keepX[i], keepY[partner[i]] = true, true
	}
}
