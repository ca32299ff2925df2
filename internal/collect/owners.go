package collect

import (
	"cmp"
	"fmt"
	"strconv"
	"time"

	"sluice/internal/limit"
	"sluice/internal/metrics"
	"sluice/internal/natsbus"
	"sluice/netpoll"
)

// Owners are what the owners measure, each for itself. The functions may be called from any
// goroutine at any time; before the gateway has started they have nothing to report.
type Owners struct {
	Loops     func() []*netpoll.LoopMetrics // by index
	Now       func() time.Duration          // of the loops' clock
	Mailboxes func(emit func(owner string, index, messages int))
}

// owners registers what is counted by each owner.
func owners(to *metrics.Registry, from *Owners, bus *natsbus.Metrics) error {
	if from == nil {
		return nil
	}
	return cmp.Or(
		named("sluice_service_request_duration_seconds", func(name string) error {
			return to.Histograms(name, "Time from sending a request to a service until its end, by the kind of request and its result.", []string{"kind", "result"}, func(emit func(*metrics.Histogram, ...string)) {
				for k := range limit.Kinds {
					for r := range natsbus.Results {
						if h := bus.Latency(k, r); h.Count() > 0 || r == natsbus.ResultOK {
							emit(h, k.String(), r.String())
						}
					}
				}
			})
		}),
		named("sluice_event_latency_seconds", func(name string) error {
			return to.Histograms(name, "Time from an event's arrival from NATS until it is written to the last socket, counted per event loop; a sample under load.", nil, func(emit func(*metrics.Histogram, ...string)) {
				h := new(metrics.Histogram)
				for _, l := range from.Loops() {
					h.AddDurations(&l.Latency)
				}
				emit(h)
			})
		}),
		named("sluice_flush_connections", func(name string) error {
			return to.Histograms(name, "Connections that a flush of an event loop writes to.", nil, func(emit func(*metrics.Histogram, ...string)) {
				h := new(metrics.Histogram)
				for _, l := range from.Loops() {
					h.AddSizes(&l.Batches)
				}
				emit(h)
			})
		}),
		named("sluice_loop_busy_seconds_total", func(name string) error {
			return to.Family(name, "Time that an event loop has worked; its rate is the busy ratio.", true, []string{"loop"}, func(emit func(float64, ...string)) {
				now := from.Now()
				for i, l := range from.Loops() {
					emit(l.Busy(now).Seconds(), strconv.Itoa(i))
				}
			})
		}),
		named("sluice_mailbox_messages", func(name string) error {
			return to.Family(name, "Messages that an event loop, a cache shard or a NATS dispatcher has yet to handle.", false, []string{"owner", "index"}, func(emit func(float64, ...string)) {
				from.Mailboxes(func(owner string, index, messages int) {
					emit(float64(messages), owner, strconv.Itoa(index))
				})
			})
		}),
	)
}

// named registers a metric; the error has its name.
func named(name string, register func(name string) error) error {
	if err := register(name); err != nil {
		return fmt.Errorf("metric %s: %w", name, err)
	}
	return nil
}
