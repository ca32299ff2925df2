// Package limit owns the limits of requests in flight at services, one per service, and the queues
// of requests that wait for a place.
//
// A service is named by the first part of the resource names that it owns. The limit adapts to it,
// so that requests wait here, where calls overtake them and clients get equal shares, and not at
// the service.
//
// # The algorithm
//
// It is a gradient on latency, in windows of one round trip and 100 ms at least. A window compares
// its lowest latency with the base, the latency without a queue:
//
//	gradient = (1.5·base + 1 ms) / lowest, between 1/2 and 5/4
//	limit    = limit·gradient + √limit, half of the way in each window
//
// In a window with replies to calls, which wait in the queue at the service, it is shorter:
//
//	gradient = (1.25·base + 0.25 ms) / lowest
//	limit    = limit·gradient + √limit/2
//
// Everything that is queued at a service adds to the lowest latency. A slow request does not, so a
// service with slow and fast requests keeps its limit. Each kind of request (access, get, call,
// auth, other) has a base of its own. A timeout counts as a request with a gradient of 0. The limit
// grows only while requests wait for it.
//
// With n workers that are never idle, the limit settles near 2n, and near 1.5n while there are
// calls: half as many requests in the service's queue as it works on. So a call that overtakes the
// queue here finds 1.5 times the idle latency there. Requests on the way add to the limit.
//
// The base follows lower latencies. Higher ones count only when the service has no queue: when few
// requests are in flight, or in a probe. A probe lowers the limit to an eighth for about two round
// trips: after every 10 s in which requests waited, and sooner when the limit has halved. Without
// it, the base of a service that becomes slower for good, or of one that is saturated from the
// beginning, would be wrong.
//
// A request that timed out, or whose client has gone, is still queued at its service. It counts
// until its reply arrives, or that of a request sent after it: then it is lost. If nothing but such
// requests is in flight, one request is sent as a probe. A request whose service has asked for more
// time with a pre-response is not queued there any more. It counts towards the maximum only.
//
// # Why not a library
//
// The algorithms are those of TCP (Vegas, gradient) as Netflix's concurrency-limits applies them to
// requests. Its ports to Go (platinummonkey/go-concurrency-limits) take a mutex and allocate for
// each request, block the caller while it waits, and use the average latency, to which slow calls
// look like a queue. Owners may not block, and the rest is less than a page.
//
// # Concurrency
//
// Table and Service may be used by any goroutine. They use atomics and take no lock. A Queue
// belongs to one goroutine. Time is an argument.
package limit
