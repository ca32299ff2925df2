package natsbus

import (
	"errors"

	"sluice/internal/metrics"
)

// Metrics are the counters of a Bus, summed over its connections and callers. Any goroutine may
// read them.
type Metrics struct {
	Requests     metrics.Counter // requests made, including those that failed at once
	Replies      metrics.Counter // replies to pending requests, without pre-responses and no-responders
	PreResponses metrics.Counter // replies that only extended a timeout
	Timeouts     metrics.Counter // requests that ended with ErrTimeout or ErrDisconnected
	NoResponders metrics.Counter // requests without a subscribed service
	LateReplies  metrics.Counter // replies whose request had ended
	Abandoned    metrics.Counter // requests cancelled because their client has gone
	BadSubjects  metrics.Counter // requests and subscriptions rejected for their subject
	TooLong      metrics.Counter // requests and subscriptions whose subject is too long for the server
	TooLarge     metrics.Counter // requests whose payload is too large for the server
	Overloaded   metrics.Counter // requests rejected because a queue was full
	Failed       metrics.Counter // requests that nats.go failed to send
	Unsent       metrics.Counter // requests that ended before they were sent
	Pending      metrics.Gauge   // requests in flight

	Events        metrics.Counter // events of resources received
	Unwanted      metrics.Counter // events of wildcards for names that are not subscribed, or come twice
	SystemEvents  metrics.Counter // system and token events received
	BytesIn       metrics.Counter // payload bytes received
	BytesOut      metrics.Counter // payload bytes published
	Queue         metrics.Gauge   // operations queued for publishers
	Subscriptions metrics.Gauge   // subscribed resource names
	Subscribes    metrics.Counter // SUB lines sent, those repeated on a new connection included
	Unsubscribes  metrics.Counter // UNSUB lines sent

	Refused   metrics.Counter // subscriptions that NATS denied
	Forbidden metrics.Counter // requests that NATS denied

	Gaps         metrics.Counter // Gap signals, of both causes
	SlowConsumer metrics.Counter // drops that nats.go reported
	Disconnects  metrics.Counter // connections lost
	Reconnects   metrics.Counter // connections restored
	Watched      metrics.Gauge   // other servers of the cluster whose beats arrive
	Partitions   metrics.Counter // times a server of the cluster was found cut off from the others

	Lost [Reasons]metrics.Counter // connections lost, by reason

	callers callers // what each caller measures
}

// reject counts a request or subscription that failed with err before it reached NATS.
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
