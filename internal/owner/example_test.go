package owner_test

import (
	"fmt"
	"time"

	"sluice/internal/owner"
)

// An owner is a loop that sleeps until it is woken, by a message or by a deadline. Each iteration
// has the same order: timers, messages, deadlines of peers, and at last the next alarm.
func Example() {
	clock := owner.NewManualClock() // SystemClock in a program
	start := clock.Now()            // since an arbitrary moment
	now := start
	wakes := make(chan struct{}, 1) // wake-ups that are pending coalesce
	wake := func() {
		select {
		case wakes <- struct{}{}:
		default:
		}
	}
	wheel := owner.NewWheel(time.Millisecond, now)
	ticker := owner.NewTicker(clock, wheel, wake)
	mailbox := owner.NewMailbox[string](wake)

	iterate := func() {
		<-wakes
		ticker.Turn(&now)
		mailbox.Drain(0, func(m string) { fmt.Println(now-start, m) })
		ticker.Judge(now, false)
		ticker.Rearm()
	}

	var timer owner.Timer // part of what it belongs to
	wheel.Schedule(&timer, now+2*time.Second, owner.Func(func(now time.Duration) { fmt.Println(now-start, "timer") }))
	mailbox.Put("first") // any goroutine may do that
	mailbox.Put("second")
	iterate()
	clock.Advance(2 * time.Second)
	iterate()
	ticker.Stop()
	// Output:
	// 0s first
	// 0s second
	// 2s timer
}
