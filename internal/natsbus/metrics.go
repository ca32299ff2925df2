package natsbus

import (
	"errors"

	"sluice/internal/metrics"
)

// Metrics are the counters of a Bus, summed over its connections and callers. Whoever exports them
// reads them at any time.
type Metrics struct {
	Requests     metrics.Counter // requests made, including those that failed at once
	Replies      metrics.Counter // answers that found their request; pre-responses and no-responders not included
	PreResponses metrics.Counter // answers that only extended a timeout
	Timeouts     metrics.Counter // requests that ended with ErrTimeout or ErrDisconnected
	NoResponders metrics.Counter // requests that no service listens to
	LateReplies  metrics.Counter // answers whose request was over already
	Abandoned    metrics.Counter // requests given up because the client that asked has gone
	BadSubjects  metrics.Counter // requests and subscriptions refused for their subject
	TooLong      metrics.Counter // requests and subscriptions refused because the server accepts no subject so long
	TooLarge     metrics.Counter // requests refused because the server accepts no payload so large
	Overloaded   metrics.Counter // requests refused because too many are waiting
	Failed       metrics.Counter // requests that nats.go refused to send
	Unsent       metrics.Counter // requests that were over before the publisher came to them
	Pending      metrics.Gauge   // requests under way

	Events        metrics.Counter // events of resources received
	SystemEvents  metrics.Counter // system and token events received
	BytesIn       metrics.Counter // payload bytes received
	BytesOut      metrics.Counter // payload bytes published
	Queue         metrics.Gauge   // operations waiting for publishers
	Subscriptions metrics.Gauge   // subscribed resource names

	Refused   metrics.Counter // subscriptions that NATS refused
	Forbidden metrics.Counter // requests that NATS did not let pass

	Gaps         metrics.Counter // Gap signals, of both causes
	SlowConsumer metrics.Counter // times nats.go reported that it dropped messages
	Disconnects  metrics.Counter // connections lost
	Reconnects   metrics.Counter // connections restored

	Lost [Reasons]metrics.Counter // connections lost, by reason
}

// reject counts a request or subscription refused with err before it reached NATS.
func (m *Metrics) reject(err error) {
	switch {
	case errors.Is(err, ErrSubjectTooLong):
		m.TooLong.Inc()
	case errors.Is(err, ErrPayloadTooLarge):
		m.TooLarge.Inc()
	default:
		m.BadSubjects.Inc()
	}
}
