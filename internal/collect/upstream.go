package collect

import (
	"fmt"
	"sync/atomic"

	"sluice/cache"
	"sluice/internal/metrics"
	"sluice/internal/natsbus"
)

// registrar registers metrics, and keeps the first error.
type registrar struct {
	to  *metrics.Registry
	err error
}

func (r *registrar) note(name string, err error) {
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("metric %s: %w", name, err)
	}
}

func (r *registrar) counter(name, help string, labels metrics.Labels, read func() uint64) {
	r.note(name, r.to.Counter(name, help, labels, read))
}

func (r *registrar) gauge(name, help string, read func() int64) {
	r.note(name, r.to.Gauge(name, help, nil, read))
}

// count is a counter and its help.
type count struct {
	help string
	read func() uint64
}

func (r *registrar) counters(prefix string, all map[string]count) {
	for name, c := range all {
		r.counter(prefix+name+"_total", c.help, nil, c.read)
	}
}

// total reads a counter of cache.Metrics.
func total(v *atomic.Int64) func() uint64 { return func() uint64 { return uint64(v.Load()) } }

// Upstream registers the counters of cache shards and of their connections to NATS, which a relay
// has as well. The error names a metric that exists already.
func Upstream(to *metrics.Registry, c *cache.Metrics, b *natsbus.Metrics) error {
	reg := registrar{to: to}
	counter, gauge, counters := reg.counter, reg.gauge, reg.counters
	gauge("sluice_cache_resources", "Resource names with a NATS subscription.", c.Resources.Load)
	gauge("sluice_cache_entries", "Cached resources; each normalised query counts.", c.Entries.Load)
	gauge("sluice_cache_bytes", "Bytes of keys and values cached.", c.Bytes.Load)
	gauge("sluice_cache_unused", "Cached resources without subscribers.", c.Unused.Load)
	gauge("sluice_cache_unused_bytes", "Memory of cached resources without subscribers; cacheBytes bounds it.", c.UnusedBytes.Load)
	gauge("sluice_cache_subscriptions", "Event loops' subscriptions of cached resources.", c.Subscriptions.Load)
	gauge("sluice_cache_behind", "Event loops' subscriptions that have missed events and wait for the newest state.", c.Behind.Load)
	counters("sluice_cache_", map[string]count{
		"gets":           {"First gets sent to services.", total(&c.Gets)},
		"get_failures":   {"First gets that failed.", total(&c.GetFailures)},
		"regets":         {"Refetches sent: gets after resets and lost events.", total(&c.Regets)},
		"reget_failures": {"Refetches that failed; the old state stayed.", total(&c.RegetFailures)},
		"query_requests": {"Query requests sent.", total(&c.QueryRequests)},
		"query_failures": {"Query requests that failed.", total(&c.QueryFailures)},
		"events":         {"Events received for cached resources.", total(&c.Events)},
		"events_applied": {"Events that changed a resource or were sent to the loops.", total(&c.EventsApplied)},
		"events_bad":     {"Events dropped: malformed, or of the wrong kind for the resource.", total(&c.EventsBad)},
		"events_lost":    {"Events dropped from a full queue; their resources were refetched.", total(&c.EventsLost)},
		"synced":         {"Event loops' subscriptions that caught up after missing events.", total(&c.Synced)},
		"deletes":        {"Resources deleted by their services.", total(&c.Deletes)},
		"refused":        {"Resources dropped because NATS rejects the subscription to their events.", total(&c.Refused)},
		"evictions":      {"Resources evicted without subscribers.", total(&c.Evictions)},
		"evicted_early":  {"Resources evicted before cacheEviction had passed, for their memory.", total(&c.EvictedEarly)},
		"returns":        {"Resources without subscribers that got one before they were evicted.", total(&c.Returns)},
		"late_returns":   {"Resources that got a subscriber again within cacheEvictionMost, but were evicted: each cost an UNSUB, a SUB and a get.", total(&c.LateReturns)},
		"too_large":      {"Resources rejected because they exceed maxResourceBytes.", total(&c.TooLarge)},
	})

	gauge("sluice_nats_requests_pending", "Requests to services in flight.", b.Pending.Load)
	gauge("sluice_nats_queue", "Operations queued for NATS.", b.Queue.Load)
	gauge("sluice_nats_subscriptions", "Resource names subscribed on NATS.", b.Subscriptions.Load)
	gauge("sluice_nats_watched_servers", "Other servers of the NATS cluster that are watched and reach those that the gateway is connected to.", b.Watched.Load)
	counters("sluice_nats_", map[string]count{
		"requests":       {"Requests to services, including those that failed immediately.", b.Requests.Load},
		"replies":        {"Replies received for pending requests.", b.Replies.Load},
		"pre_responses":  {"Pre-responses received, which only extend a timeout.", b.PreResponses.Load},
		"failed":         {"Requests that the NATS client failed to send.", b.Failed.Load},
		"unsent":         {"Requests that ended before they were sent.", b.Unsent.Load},
		"system_events":  {"System and token events received.", b.SystemEvents.Load},
		"timeouts":       {"Requests without a reply in time.", b.Timeouts.Load},
		"no_responders":  {"Requests without a subscribed service.", b.NoResponders.Load},
		"late_replies":   {"Replies received after their request had ended.", b.LateReplies.Load},
		"abandoned":      {"Requests given up because their client has gone.", b.Abandoned.Load},
		"bad_subjects":   {"Requests and subscriptions rejected for an invalid subject.", b.BadSubjects.Load},
		"too_long":       {"Requests and subscriptions rejected because their subject is too long for NATS.", b.TooLong.Load},
		"too_large":      {"Requests rejected because their payload is too large for NATS.", b.TooLarge.Load},
		"overloaded":     {"Requests rejected because a queue was full.", b.Overloaded.Load},
		"refused":        {"Subscriptions denied by NATS, for lack of permission or for their number.", b.Refused.Load},
		"forbidden":      {"Requests denied by NATS for lack of permission.", b.Forbidden.Load},
		"events":         {"Events of resources received.", b.Events.Load},
		"unwanted":       {"Events of natsWildcards for resources that are not cached.", b.Unwanted.Load},
		"received_bytes": {"Payload bytes received.", b.BytesIn.Load},
		"sent_bytes":     {"Payload bytes sent.", b.BytesOut.Load},
		"subscribes":     {"SUB lines sent to NATS: subscriptions made, and repeated on a new connection.", b.Subscribes.Load},
		"unsubscribes":   {"UNSUB lines sent to NATS: subscriptions ended.", b.Unsubscribes.Load},
		"gaps":           {"Times messages may have been lost.", b.Gaps.Load},
		"slow_consumer":  {"Times the NATS client reported a slow consumer.", b.SlowConsumer.Load},
		"disconnects":    {"Connections to NATS lost.", b.Disconnects.Load},
		"reconnects":     {"Connections to NATS restored.", b.Reconnects.Load},
		"partitions":     {"Times a server of the NATS cluster was found cut off from the others.", b.Partitions.Load},
	})

	for r := range natsbus.Reasons {
		counter("sluice_nats_lost_total", "Connections to NATS lost, by reason.", metrics.Labels{"reason": r.String()}, b.Lost[r].Load)
	}
	return reg.err
}
