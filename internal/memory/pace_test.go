package memory

import (
	"os"
	"runtime/debug"
	"slices"
	"testing"
)

// fakePace is a pace that notes what is set.
func fakePace(percent int) (p *pace, set *[]int) {
	set = &[]int{percent}
	return &pace{set: func(to int) (before int) {
		before = (*set)[len(*set)-1]
		*set = append(*set, to)
		return before
	}}, set
}

// A lean phase ends with what is due then. A second one meanwhile changes nothing, nor does one of
// a process that is leaner or has no collections.
func TestLean(t *testing.T) {
	p, set := fakePace(100)
	end := p.begin()
	p.begin()()
	p.use(400)
	p.use(200)
	end()
	p.use(100)
	if want := []int{100, 25, 25, 25, 200, 100}; !slices.Equal(*set, want) {
		t.Errorf("%v, want %v", *set, want)
	}
	for _, percent := range []int{-1, 10, 25} {
		p, set := fakePace(percent)
		p.begin()()
		if last := (*set)[len(*set)-1]; last != percent {
			t.Errorf("%d becomes %d", percent, last)
		}
	}
}

// A small heap may grow by more of what is in use; the percentage is set when it changes.
func TestSmallHeaps(t *testing.T) {
	tt := newTrimmed()
	p, set := fakePace(100)
	tt.pace = p
	for _, live := range []int64{2 * mib, 3 * mib, 4 * mib, 7 * mib, 8 * mib, 1000 * mib, 3 * mib} {
		tt.set(live, live, 0)
		tt.pass(1, 0)
	}
	if want := []int{100, 400, 200, 100, 400}; !slices.Equal(*set, want) {
		t.Errorf("%v, want %v", *set, want)
	}
}

// GOGC is the operator's where it is set.
func TestPaceOfTheOperator(t *testing.T) {
	if before := debug.SetGCPercent(100); before != 100 {
		t.Fatalf("the tests run with GOGC=%d", before)
	}
	if value, ok := os.LookupEnv("GOGC"); ok {
		t.Fatalf("the tests run with GOGC=%s", value)
	}
	if paceOf() != &collector {
		t.Error("the pace is not ours")
	}
	for _, value := range []string{"100", "off", "200", ""} {
		t.Setenv("GOGC", value)
		if p := paceOf(); (p == nil) != (value != "") {
			t.Errorf("GOGC=%q: %v", value, p)
		}
	}
}
