package tracing

import (
	"testing"
	"time"

	"sluice/internal/testkit"
)

// TestClockJumps: a span during which the clock is set keeps its length, and has the time of day of
// its export.
func TestClockJumps(t *testing.T) {
	for _, jump := range []time.Duration{5 * time.Hour, -5 * time.Hour} {
		r := testkit.NewCollector(t)
		k := newKit(t, Options{Endpoint: r.URL + "/v1/traces", Ratio: 1, Service: "edge"})
		k.Tracer.env.Wall = k.clock.Wall
		k.start(t)
		begun := k.clock.Wall()
		span := k.Begin("call", Context{})
		k.clock.Jump(jump)
		k.clock.Advance(time.Millisecond)
		k.End(span)
		k.clock.Advance(exportDelay)
		testkit.Until(t, "a span", func() bool { spans, _ := r.Spans(); return len(spans) == 1 })
		k.stop()
		spans, _ := r.Spans()
		start, end := spans[0].StartTimeUnixNano, spans[0].EndTimeUnixNano
		if want := uint64(begun.Add(jump).UnixNano()); end-start != 1e6 || start != want {
			t.Errorf("from %d to %d, want the start %d", start, end, want)
		}
	}
}
