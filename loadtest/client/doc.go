// Package client is the load harness's client side. It holds thousands of
// WebSocket or HTTP connections in a few threads, and costs less than any server
// that it measures. Each thread runs an epoll loop; there is no goroutine per
// connection. A thread parses frames in its read buffer, and finds an event by
// the due time in its payload instead of by parsing JSON.
//
// A Thread owns its connections, histograms and counters, and only its goroutine
// touches them. The Engine owns the threads and posts functions to them. Worker
// and Remote run an Engine in a process of its own, because the descriptors of
// one process are limited.
//
// The package never publishes events and never judges figures. It knows
// protocols (Driver), not gateways.
//
// Every latency counts from a due time: an event carries its own in the payload,
// a request in its id.
package client
