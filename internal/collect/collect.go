// Package collect registers the counters of all parts as metrics, under our own names and
// Resgate's.
//
// It never counts anything itself: it reads the parts' counters when the registry is scraped. A
// test checks that every counter of a source has a metric.
package collect

import (
	"cmp"
	"fmt"
	"sync/atomic"

	"sluice/cache"
	"sluice/fanout"
	"sluice/internal/embednats"
	"sluice/internal/httpapi"
	"sluice/internal/httpedge"
	"sluice/internal/jwtauth"
	"sluice/internal/limit"
	"sluice/internal/memory"
	"sluice/internal/metrics"
	"sluice/internal/natsbus"
	"sluice/internal/owner"
	"sluice/internal/presence"
	"sluice/internal/ratelimit"
	"sluice/internal/res"
	"sluice/internal/session"
	"sluice/internal/tracing"
	"sluice/netpoll"
)

// Sources are the counters of a gateway's parts. All are required but Services.
type Sources struct {
	Net     *netpoll.Metrics
	Fanout  *fanout.Metrics
	Session *session.Metrics
	Cache   *cache.Metrics
	NATS    *natsbus.Metrics
	Leaf    *embednats.Metrics
	Limits  *ratelimit.Metrics
	HTTP    *httpedge.Metrics
	API     *httpapi.Metrics

	Compressions   *metrics.Counter // WebSocket messages compressed
	CutHTTP        *metrics.Counter // connections of net/http cut at the end of a drain
	InvalidAnswers *atomic.Uint64   // malformed replies of services
	Faults         *owner.Faults
	Draining       func() bool  // reports whether the gateway is being stopped
	Services       *limit.Table // limits of requests at services; nil: there are none
	Memory         *memory.Watch
	Owners         *Owners // nil: not measured
	Status         *Status // nil: not known
	Tokens         *jwtauth.Metrics
	Traces         *tracing.Metrics
	Presence       *presence.Metrics
}

// Register registers the counters of all sources. The error names a metric that exists already.
func Register(to *metrics.Registry, from *Sources) error {
	n, f, s, c, b, h := from.Net, from.Fanout, from.Session, from.Cache, from.NATS, from.HTTP
	reg := registrar{to: to}
	counter, gauge := reg.counter, reg.gauge

	gauge("sluice_ws_connections", "Open WebSocket connections.", n.Open.Load)
	gauge("sluice_connections", "Open client connections of every kind.", n.OpenAll.Load)
	gauge("sluice_draining", "1 while the gateway is being stopped.", func() int64 {
		if from.Draining() {
			return 1
		}
		return 0
	})
	for where, read := range map[string]func() uint64{"event_loops": n.Cut.Load, "http_server": from.CutHTTP.Load} {
		counter("sluice_drain_cut_total", "Connections cut at the end of a drain, by what served them.", metrics.Labels{"where": where}, read)
	}
	gauge("sluice_connections_lagging", "Slow consumers: connections whose socket buffer is full.", n.Lagging.Load)
	counter("sluice_connections_accepted_total", "Connections accepted, including rejected ones.", nil, n.Accepted.Load)
	counter("sluice_ws_connections_opened_total", "WebSocket connections opened.", nil, n.Upgraded.Load)
	for _, code := range netpoll.CloseCodes() {
		counter("sluice_ws_connections_closed_total", "WebSocket connections closed, by close code.", metrics.Labels{"code": fmt.Sprint(code)}, n.ClosedWith(code).Load)
	}
	counter("sluice_ws_connections_closed_total", "WebSocket connections closed, by close code.", metrics.Labels{"code": "other"}, n.ClosedWith(0).Load)
	for reason, v := range map[string]*atomic.Uint64{
		"descriptors": &n.RefusedFDs, "max_connections": &n.RefusedMax, "accept_rate": &n.RefusedRate, "memory": &n.RefusedMemory, "draining": &n.RefusedDrain, "silent": &n.Evicted,
		"head": &n.RefusedHead, "head_timeout": &n.RefusedTimeout, "upgrade": &n.RefusedUpgrade, "proxy_header": &n.RefusedProxy,
	} {
		counter("sluice_connections_refused_total", "Connections rejected before their first request, by reason.", metrics.Labels{"reason": reason}, v.Load)
	}
	gauge("sluice_clients_paused", "Clients that are not read until some of their requests are answered.", n.Paused.Load)
	counter("sluice_accept_pauses_total", "Times that an event loop left new connections to the kernel's queue for a moment (acceptPace).", nil, n.AcceptPauses.Load)
	counter("sluice_client_pauses_total", "Times that a client had as many requests in flight as it may, and was not read.", nil, n.Pauses.Load)
	gauge("sluice_clients_throttled", "Clients that are not read because they sent more than their rates allow.", n.Throttled.Load)
	for rate, v := range map[string]*atomic.Uint64{"messages": &n.MessagesThrottled, "bytes": &n.BytesThrottled} {
		counter("sluice_client_throttles_total", "Times that a client sent more than a rate allows, and was not read.", metrics.Labels{"rate": rate}, v.Load)
	}
	gauge("sluice_addresses", "Addresses with connections that are counted, if connections per address are limited.", from.Limits.Addresses.Load)
	for limit, v := range map[string]*atomic.Uint64{
		"connections": &from.Limits.Connections, "handshakes": &from.Limits.Handshakes, "requests": &from.Limits.Requests,
	} {
		counter("sluice_address_refused_total", "Connections and HTTP requests rejected with 429 because of a limit of their address.", metrics.Labels{"limit": limit}, v.Load)
	}
	counter("sluice_address_untracked_total", "Connections and HTTP requests not limited because too many addresses were tracked.", nil, from.Limits.Untracked.Load)
	counter("sluice_client_yields_total", "Times that a client sent more messages than its share of an iteration of its event loop.", nil, n.Yields.Load)
	counter("sluice_messages_offloaded_total", "Messages too long to be parsed on an event loop.", nil, n.Offloaded.Load)
	counter("sluice_messages_inflated_total", "Compressed messages too long to be inflated on an event loop.", nil, n.Inflated.Load)
	counter("sluice_http_requests_on_loops_total", "Requests for resources answered on the event loops.", nil, n.Requests.Load)
	counter("sluice_http_busy_total", "Requests answered with 503 because too many long responses were being encoded.", nil, h.Busy.Load)
	counter("sluice_http_handovers_total", "Connections handed over to the HTTP server.", nil, n.Handovers.Load)
	counter("sluice_http_refused_total", "Connections rejected because the HTTP server's accept queue was full.", nil, h.Refused.Load)
	counter("sluice_connections_departed_total", "Connections that a new process has taken over.", nil, n.Departed.Load)
	counter("sluice_connections_arrived_total", "Connections that were taken over from an old process.", nil, n.Arrived.Load)
	counter("sluice_http_adopted_total", "Connections handed back to an event loop by the HTTP server: for a WebSocket or a stream, or to leave for a new process.", nil, n.Adopted.Load)
	counter("sluice_http_adopt_failed_total", "WebSocket upgrades lost in the handover from the HTTP server to an event loop.", nil, n.AdoptFailed.Load)
	counter("sluice_http_half_closed_total", "Connections served on after their client had shut its side down.", nil, n.HalfClosed.Load)
	counter("sluice_proxied_total", "Connections with a client address from a PROXY protocol header.", nil, n.Proxied.Load)
	counter("sluice_loop_wakes_total", "Wake-ups of event loops by other goroutines.", nil, n.Wakes.Load)
	counter("sluice_connections_lagged_total", "Times a connection became a slow consumer.", nil, n.Lags.Load)
	r := from.API
	gauge("sluice_http_streams", "Streams of server-sent events on the HTTP server.", r.Streams.Load)
	counter("sluice_http_streams_cut_total", "Streams on the HTTP server closed because their client did not read.", nil, r.StreamsCut.Load)
	counter("sluice_http_not_modified_total", "Requests answered with 304.", nil, r.NotModified.Load)
	counter("sluice_http_compressed_total", "Responses sent compressed.", nil, r.Compressed.Load)
	counter("sluice_http_body_too_large_total", "Requests rejected for the size of their body.", nil, r.BodyTooLarge.Load)
	counter("sluice_http_answer_too_large_total", "Resources rejected for the size of their encoding.", nil, r.TooLarge.Load)
	gauge("sluice_http_backlog_bytes", "Bytes of HTTP responses waiting to be written on the event loops.", n.ResponseBytes.Load)
	gauge("sluice_http_server_backlog_bytes", "Bytes of large HTTP responses that the HTTP server is writing.", r.Backlog.Load)
	counter("sluice_http_backlog_full_total", "Requests answered with 503 because too many bytes of responses waited to be written.", nil, r.BacklogFull.Load)
	gauge("sluice_streams", "Streams of server-sent events on the event loops.", n.OpenStreams.Load)
	counter("sluice_streams_opened_total", "Streams of server-sent events opened on the event loops.", nil, n.Streams.Load)
	gauge("sluice_upgrades_pending", "WebSocket upgrades waiting for header authentication.", n.Pending.Load)
	counter("sluice_tls_handshakes_started_total", "TLS handshakes started.", nil, n.TLSStarted.Load)
	for result, v := range map[string]*atomic.Uint64{
		"done": &n.TLSDone, "failed": &n.TLSFailed, "timeout": &n.TLSTimeout, "refused": &n.TLSRefused, "silent": &n.TLSSilent,
	} {
		counter("sluice_tls_handshakes_total", "TLS handshakes ended, by result.", metrics.Labels{"result": result}, v.Load)
	}
	gauge("sluice_tls_handshakes", "TLS handshakes in progress.", n.TLSHandshaking.Load)
	counter("sluice_tls_resumed_total", "TLS handshakes that resumed a session.", nil, n.TLSResumed.Load)
	counter("sluice_tls_rests_total", "Times that an idle connection with TLS 1.3 has dropped its ciphers, which the next record makes again.", nil, n.TLSRests.Load)
	counter("sluice_tls_h2_total", "TLS connections that negotiated HTTP/2.", nil, n.TLSH2.Load)
	counter("sluice_received_bytes_total", "Bytes received from clients on the event loops.", nil, n.BytesIn.Load)
	counter("sluice_sent_bytes_total", "Bytes sent to clients from the event loops.", nil, n.BytesOut.Load)
	counter("sluice_writes_total", "Writes to clients, by a system call each or through io_uring; compare with frames sent.", nil, n.Writes.Load)
	counter("sluice_submissions_total", "Submissions to io_uring; compare with writes.", nil, n.Submits.Load)
	counter("sluice_ws_messages_received_total", "Complete WebSocket messages received.", nil, n.Messages.Load)
	counter("sluice_ws_frames_sent_total", "WebSocket frames queued for clients.", nil, n.Frames.Load)
	counter("sluice_ws_compressions_total", "Messages compressed: an event once on each event loop, for all its clients there.", nil, from.Compressions.Load)
	for reason, v := range map[string]*atomic.Uint64{
		"outbox": &n.Overflows, "slow": &n.SlowClosed, "backlog": &n.BacklogClosed, "ping": &n.PingLost, "tls": &n.TLSBroken, "discard": &n.DiscardCut,
	} {
		counter("sluice_connections_closed_total", "Connections closed by the gateway, by reason: outbox (more than outboxBytes queued), slow (nothing read for slowTimeout), "+
			"backlog (all slow clients held more than backlogBytes), ping (no pong), tls (a malformed record), discard (too much input after a last response).",
			metrics.Labels{"reason": reason}, v.Load)
	}
	gauge("sluice_backlog_bytes", "Output queued for slow clients; backlogBytes bounds it, together with the events and versions that are held.", n.BacklogBytes.Load)
	counter("sluice_engine_restarts_total", "Restarts of the event engine after an accept error.", nil, n.Restarts.Load)

	for o := range jwtauth.Outcomes {
		counter("sluice_tokens_total", "Clients' tokens, by what became of them; missing: no token was sent.", metrics.Labels{"outcome": o.String()}, from.Tokens.Outcomes[o].Load)
	}
	counter("sluice_spans_exported_total", "Spans that the collector has taken.", nil, from.Traces.Exported.Load)
	counter("sluice_spans_dropped_total", "Spans dropped because too many waited for the collector.", nil, from.Traces.Dropped.Load)
	counter("sluice_spans_failed_total", "Spans that the collector did not take.", nil, from.Traces.Failed.Load)
	gauge("sluice_spans_queued", "Spans that wait for the collector.", from.Traces.Queued.Load)
	gauge("sluice_tokens_waiting_bytes", "Tokens that wait for their verification.", from.Tokens.Waiting.Load)
	counter("sluice_token_cache_hits_total", "Tokens that needed no verification, since they were verified before.", nil, from.Tokens.CacheHits.Load)
	gauge("sluice_token_keys", "Public keys in use for tokens.", from.Tokens.Keys.Load)
	counter("sluice_token_key_fetches_total", "Fetches of the keys of tokens.", nil, from.Tokens.Fetches.Load)
	counter("sluice_token_key_fetch_failures_total", "Fetches of the keys of tokens that failed.", nil, from.Tokens.FetchFailures.Load)

	present := from.Presence
	for event, v := range map[string]*metrics.Counter{"connect": &present.Connects, "disconnect": &present.Disconnects} {
		counter("sluice_connection_events_total", "Connection events published for services.", metrics.Labels{"event": event}, v.Load)
	}
	reg.counters("sluice_connection_events_", map[string]count{
		"coalesced": {"Clients that came and went before their connect event was published, which makes no event.", present.Coalesced.Load},
		"dropped":   {"Connection events dropped because too many waited for NATS; services read the list again.", present.Dropped.Load},
	})
	gauge("sluice_connection_events_queued", "Connection events that wait for NATS.", present.Queued.Load)
	counter("sluice_gateway_id_conflicts_total", "Messages of another gateway with the same gatewayId.", nil, present.Conflicts.Load)
	gauge("sluice_gateway_id_conflict", "1 while another gateway has the same gatewayId.", present.Conflict.Load)

	for p := range owner.Parts {
		counter("sluice_panics_total", "Panics recovered, by the kind of goroutine. Each is a bug to report.",
			metrics.Labels{"owner": p.String()}, func() uint64 { return from.Faults.Count(p) })
	}

	gauge("sluice_memory_level", "How short memory is: 0 enough, 1 tight (unused cache is dropped), 2 short (new connections get 503), 3 scarce (the slowest clients are closed).",
		func() int64 { return int64(from.Memory.Level()) })
	for l := memory.Tight; l <= memory.Scarce; l++ {
		counter("sluice_memory_shed_total", "Times that memory became so short, by level.",
			metrics.Labels{"level": l.String()}, func() uint64 { return from.Memory.Raised(l) })
	}

	gauge("sluice_topics", "Resources with subscribers, counted per event loop.", f.Topics.Load)
	gauge("sluice_topic_members", "Clients' memberships of topics.", f.Members.Load)
	counter("sluice_events_fanned_out_total", "Events fanned out, counted per event loop.", nil, f.Events.Load)
	counter("sluice_deliveries_total", "Events put into clients' write queues.", nil, f.Deliveries.Load)
	counter("sluice_encodings_total", "Event frames encoded; compare with deliveries.", nil, f.Encodings.Load)

	counter("sluice_set_encodings_total", "Large resource sets encoded for responses; clients that need the same set share it.", nil, f.SetEncodings.Load)

	gauge("sluice_sessions", "Clients' sessions.", s.Sessions.Load)
	gauge("sluice_subscriptions", "Resources subscribed by clients, direct and indirect.", s.Subscriptions.Load)
	for t := res.VersionRequest; t <= res.New; t++ {
		counter("sluice_requests_total", "Clients' requests, by type.", metrics.Labels{"type": t.String()}, s.Requests[t].Load)
	}
	counter("sluice_requests_invalid_total", "Requests rejected with system.invalidRequest.", nil, s.Invalid.Load)
	counter("sluice_messages_dropped_total", "Client messages without a response: not JSON, or without an id.", nil, s.Dropped.Load)
	counter("sluice_requests_refused_total", "Requests rejected because of a limit.", nil, s.Refused.Load)
	counter("sluice_events_held_total", "Events queued in a subscription until they may be sent.", nil, s.Held.Load)
	gauge("sluice_events_held_bytes", "Events that are queued in subscriptions, each counted once.", s.HeldBytes.Load)
	gauge("sluice_events_held_shares_bytes", "The same, counted for each subscription that has the event queued.", s.HeldShares.Load)
	gauge("sluice_versions_held_bytes", "Old states of resources, and long differences, that are kept for subscriptions only; what they share with newer states is not counted.", from.Fanout.VersionBytes.Load)
	gauge("sluice_versions_held_shares_bytes", "The same, in full for each subscription that keeps one.", from.Fanout.VersionShares.Load)
	counter("sluice_events_conflated_total", "Events coalesced into a later difference.", nil, s.Conflated.Load)
	counter("sluice_events_lost_total", "Custom events dropped from a full queue.", metrics.Labels{"where": "session"}, s.Lost.Load)
	counter("sluice_events_lost_total", "Custom events dropped from a full queue.", metrics.Labels{"where": "cache"}, total(&c.CustomLost))
	counter("sluice_revoked_total", "Direct subscriptions revoked by the gateway.", nil, s.Revoked.Load)

	counter("sluice_invalid_answers_total", "Malformed replies of services; the log has the reasons.", nil, from.InvalidAnswers.Load)
	gauge("sluice_nats_leaf_links", "Leaf links of the embedded NATS server to its hub that are up.", from.Leaf.Links.Load)
	reg.counters("sluice_nats_leaf_", map[string]count{
		"ups":    {"Times that the leaf links to the hub were all up again.", from.Leaf.Ups.Load},
		"losses": {"Times that a leaf link to the hub was lost.", from.Leaf.Losses.Load},
	})

	err := cmp.Or(reg.err, Upstream(to, c, b), services(to, from.Services), owners(to, from.Owners, b), status(to, from.Status))

	requests := make(map[string]func() uint64)
	for _, t := range []res.RequestType{res.Get, res.Subscribe, res.Unsubscribe, res.Call, res.Auth} {
		requests[t.String()] = s.Requests[t].Load
	}
	// Resgate counts a new request as the call that it is.
	requests[res.Call.String()] = func() uint64 { return s.Requests[res.Call].Load() + s.Requests[res.New].Load() }
	methods := make(map[string]func() uint64)
	for name, c := range h.Methods() {
		methods[name] = c.Load
	}
	to.Resgate(metrics.Resgate{
		HTTPRequests:       methods,
		WSConnections:      n.Open.Load,
		WSConnectionsTotal: n.Upgraded.Load,
		WSRequests:         requests,
		CacheResources:     c.Resources.Load,
		CacheSubscriptions: f.Members.Load, // clients' subscriptions, direct and by reference; c counts loops
	})
	return err
}
