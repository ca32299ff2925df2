package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/internal/owner"
)

// arrivalWait bounds how long an order waits for clients of the predecessor to arrive, beside the
// window in which that one drains: its own is taken to be this process's.
const arrivalWait = 5 * time.Minute

// errArriving is why an order is not carried out after its wait.
var errArriving = errors.New("clients of the process before this one still arrive")

// arrival is the time in which clients of the predecessor come to this process. Those that came
// while this one hands over itself would be closed in its drain, so orders wait for its end.
type arrival struct {
	clock owner.Clock
	ended chan struct{} // closed when none come any more
}

func newArrival(clock owner.Clock) *arrival { return &arrival{clock, make(chan struct{})} }

// end ends the arrival. It is called once.
func (a *arrival) end() { close(a.ended) }

// wait returns nil when the arrival has ended, ctx's error when that ends, and errArriving with
// what to do after a time. say gets what it waits for, if it does. Any goroutine may call it.
func (a *arrival) wait(ctx context.Context, within time.Duration, say func(string)) error {
	select {
	case <-a.ended:
		return nil
	default:
	}
	bound, end := owner.Within(ctx, a.clock, within)
	defer end()
	say("clients of the process before still arrive here; the new process starts when they have")
	select {
	case <-a.ended:
		return nil
	case <-bound.Done():
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return fmt.Errorf("%w, after %v: order again when that process has ended, or end it with SIGTERM", errArriving, within)
}
