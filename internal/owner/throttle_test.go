package owner

import "testing"

// The limit counts for slots that are taken after it was set, and what waits gets what it frees.
func TestThrottleSetLimit(t *testing.T) {
	th := NewThrottle(0)
	granted := 0
	acquire := func(n, want int) {
		t.Helper()
		for range n {
			th.Acquire(func() { granted++ })
		}
		if granted != want {
			t.Fatalf("%d granted, want %d", granted, want)
		}
	}
	release := func(n, want int) {
		t.Helper()
		for range n {
			th.Release()
		}
		if granted != want {
			t.Fatalf("%d granted, want %d", granted, want)
		}
	}
	acquire(3, 3) // no limit
	th.SetLimit(2)
	acquire(2, 3)
	release(1, 3) // three were in progress: two are left
	release(1, 4)
	th.SetLimit(3)
	acquire(2, 5)
	if granted != 5 || th.Waiting() != 2 {
		t.Fatalf("%d granted, %d waiting", granted, th.Waiting())
	}
	th.SetLimit(0)
	if granted != 7 || th.Waiting() != 0 {
		t.Fatalf("%d granted, %d waiting", granted, th.Waiting())
	}
	release(5, 7)
	th.SetLimit(1)
	acquire(2, 8)
	release(2, 9)
}
