//go:build linux

package run

import (
	"golang.org/x/sys/unix"

	"sluice/loadtest/client"
	"sluice/loadtest/hist"
)

// pacer computes when events are due: burst of them together, and the gap between bursts
// that gives the rate. Lateness of the sender or of the gateway moves no due time.
type pacer struct {
	start int64
	gap   float64 // ns between bursts
	burst int
	count int // of events
}

// newPacer returns a pacer of rate events per second over a duration in nanoseconds.
func newPacer(start int64, rate float64, burst int, duration int64) pacer {
	gap := 1e9 * float64(burst) / rate
	bursts := max(int(float64(duration)/gap), 1)
	return pacer{start: start, gap: gap, burst: burst, count: bursts * burst}
}

// due returns when the i-th event is due.
func (p pacer) due(i int) int64 { return p.start + int64(float64(i/p.burst)*p.gap) }

// end returns when the series is over: a gap after the last burst.
func (p pacer) end() int64 { return p.due(p.count-1) + int64(p.gap) }

// run calls send for each event when it is due, and flush after each burst. It returns
// how late the sender itself was, and the number of events sent. It ends early if send
// fails or stop is closed.
func (p pacer) run(sleep func(until int64), send func(i int, due int64) error, flush func() error, stop <-chan struct{}) (late *hist.Hist, sent int, err error) {
	late = hist.New()
	for i := range p.count {
		due := p.due(i)
		if i%p.burst == 0 {
			select {
			case <-stop:
				return late, sent, nil
			default:
			}
			sleep(due)
			late.Record(client.Now() - due)
		}
		if err := send(i, due); err != nil {
			return late, sent, err
		}
		sent++
		if i%p.burst == p.burst-1 {
			if err := flush(); err != nil {
				return late, sent, err
			}
		}
	}
	return late, sent, nil
}

// sleepUntil waits for a time of client.Now. The goroutine should be locked to its
// thread. A timer of the runtime may be a millisecond late, which is too much here.
func sleepUntil(at int64) {
	for client.Now() < at {
		ts := unix.NsecToTimespec(at)
		if err := unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &ts, nil); err != nil && err != unix.EINTR {
			return // the recorded lateness shows it
		}
	}
}
