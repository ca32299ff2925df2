// Package client is the load harness's client side: it holds thousands of
// WebSocket or HTTP connections in a few threads and costs less than any server
// it measures. Each thread has an epoll descriptor of its own; there is no
// goroutine per connection, a frame is parsed where it was read, and an event is
// found in it by its due stamp instead of by parsing JSON.
//
// Ownership: a Thread owns its connections, histograms and counters; nobody
// else touches them. The Engine, which owns the threads, reaches them by
// functions that run on the thread. Worker and Remote put an Engine into a
// process of its own, because one process runs out of descriptors.
//
// It never publishes events and never judges figures, it knows no gateway by
// name, only protocols (Driver), and it touches no connection but its own.
//
// Every latency is counted from when something was due: an event carries its
// due time in its payload, a request in its id.
package client
