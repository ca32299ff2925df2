package httpapi

import (
	"errors"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"sluice/internal/owner"
)

// deadlineWriter is a client that reads nothing until it is cut.
type deadlineWriter struct {
	http.ResponseWriter
	cut chan struct{}
}

func (w *deadlineWriter) Write([]byte) (int, error) {
	<-w.cut
	return 0, errors.New("timeout")
}

func (w *deadlineWriter) SetWriteDeadline(at time.Time) error {
	if at.Before(time.Now()) {
		close(w.cut)
	}
	return nil
}

// Of what net/http is writing the largest goes first, among equals what has waited longest, and no
// more than the share.
func TestWorstWritersGoFirst(t *testing.T) {
	clock := owner.NewManualClock()
	var share atomic.Int64
	var asked []int64
	closed := 0
	l := &writing{clock: clock, shed: func(bytes int64, cut func(int64) int) {
		if asked = append(asked, bytes); share.Load() > 0 {
			closed += cut(share.Load())
		}
	}}
	var order []int
	ended := make(chan int)
	for i, size := range []int{20, 50, 50, 10} {
		w := &deadlineWriter{cut: make(chan struct{})}
		go func() {
			l.send(w, make([]byte, size))
			ended <- i
		}()
		for listed := 0; listed <= i; { // one after the other: the first has waited longest
			l.mu.Lock()
			listed = len(l.all)
			l.mu.Unlock()
		}
		clock.Advance(time.Millisecond)
	}
	clock.Advance(writingTick)
	if l.total.Load() != 130 || closed != 0 {
		t.Fatalf("%d bytes wait, %d cut", l.total.Load(), closed)
	}
	share.Store(49)
	for range 2 {
		clock.Advance(writingTick)
		order = append(order, <-ended)
	}
	if !slices.Equal(order, []int{1, 2}) || closed != 2 {
		t.Errorf("cut: %v, %d counted", order, closed)
	}
	share.Store(100)
	clock.Advance(writingTick)
	order = []int{<-ended, <-ended}
	if slices.Sort(order); !slices.Equal(order, []int{0, 3}) || closed != 4 {
		t.Errorf("cut: %v, %d counted", order, closed)
	}
	clock.Advance(writingTick)
	n := len(asked)
	clock.Advance(time.Minute)
	if len(asked) != n || l.total.Load() != 0 {
		t.Errorf("asked %d times although nothing waits, %d bytes", len(asked)-n, l.total.Load())
	}
}
