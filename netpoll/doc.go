// Package netpoll owns the sockets of clients: event loops on gnet, one per core, with their
// listeners, connections, outboxes, wake-ups and timers. It does the WebSocket handshake and
// framing, finds where plain HTTP requests begin and end, and hands over to net/http the requests
// that the Handler does not keep.
//
// It knows bytes, not RES: the Handler knows what messages mean. It never parses JSON, never talks
// to services, and never blocks a loop.
//
// # Iterations
//
// A loop works in iterations. An iteration reads the clock and fires due timers, then handles the
// input of the sockets that are ready, then calls Handler.Iterate. At its end it writes each
// connection with output once, and closes the connections that are scheduled for it. If output is
// queued for many connections, that takes several iterations (writequeue.go), so that other work is
// not delayed. Between iterations the loop waits as a goroutine, where possible, instead of in gnet
// (wait.go). So a Handler never sees a connection closed while it works with it, and all that it
// sends to a connection until that connection is written leaves in one write.
//
// # Files
//
// In reading order: options.go, engine.go, events.go (callbacks of gnet), loop.go, wait.go (over
// package park), iteration.go, fault.go, accept.go, conn.go, state.go, input.go, pending.go,
// http.go, request.go, upgrade.go, ws.go, stream.go, proxy.go, pause.go, inflate.go, resume.go; for
// output outbox.go, flush.go, writequeue.go, defer.go, flush_choice.go, flush_uring_linux.go (over
// package uring); for a connection's end ending.go, half.go, linger.go, reap.go, evict.go,
// drain.go; for net/http handover.go, deadline.go; for TLS tls.go (over package tlsrecord),
// tls_handshake.go, tls_link.go, tls_handover.go, tls_buffers.go.
package netpoll
