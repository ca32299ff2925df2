package collect

import (
	"fmt"

	"sluice/internal/limit"
	"sluice/internal/metrics"
)

// others is the label of the services that share a limit because there are too many.
const others = "(others)"

// services registers the state of the limits of requests at services: one time series for each
// service, of which the table has a bounded number.
func services(to *metrics.Registry, table *limit.Table) error {
	label := func(s *limit.Service) string {
		if name := s.Name(); name != "" {
			return name
		}
		return others
	}
	for _, m := range []struct {
		name, help string
		counter    bool
		read       func(limit.State) float64
	}{
		{"sluice_service_limit", "Requests that may be in flight at a service at present.", false, func(s limit.State) float64 { return float64(s.Limit) }},
		{"sluice_service_requests", "Requests in flight at a service.", false, func(s limit.State) float64 { return float64(s.InFlight) }},
		{"sluice_service_queued_total", "Requests that were queued for a service.", true, func(s limit.State) float64 { return float64(s.Waited) }},
		{"sluice_service_queue_timeouts_total", "Requests that were queued for a service for longer than queueTimeout.", true, func(s limit.State) float64 { return float64(s.Expired) }},
		{"sluice_service_timeouts_total", "Requests that a service did not reply to in time.", true, func(s limit.State) float64 { return float64(s.Silent) }},
	} {
		err := to.Family(m.name, m.help, m.counter, []string{"service"}, func(emit func(float64, ...string)) {
			table.Each(func(s *limit.Service) { emit(m.read(s.State()), label(s)) })
		})
		if err != nil {
			return fmt.Errorf("metric %s: %w", m.name, err)
		}
	}
	const queue = "sluice_service_queue"
	err := to.Family(queue, "Requests queued for a service, by priority.", false, []string{"service", "priority"}, func(emit func(float64, ...string)) {
		table.Each(func(s *limit.Service) {
			for p, n := range s.State().Queued {
				emit(float64(n), label(s), limit.Priority(p).String())
			}
		})
	})
	if err != nil {
		return fmt.Errorf("metric %s: %w", queue, err)
	}
	return nil
}
