package owner

import (
	"context"
	"time"
)

// Within returns a context that ends after d on a clock. If the process did not run at that time,
// the context ends Grace later, so that peers can catch up.
func Within(ctx context.Context, clock Clock, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	end := clock.Now() + d
	alarm := clock.AfterFunc(d, func() {
		if clock.Now()-end > Slack {
			clock.AfterFunc(Grace, cancel)
			return
		}
		cancel()
	})
	return ctx, func() { alarm.Stop(); cancel() }
}
