// Package netpoll owns the sockets of clients: event loops on gnet, one per core, their listeners,
// connections, outboxes, wake-ups and timers, the WebSocket handshake and framing of each
// connection, where plain HTTP requests begin and end, and the hand-over of those to net/http that
// the Handler does not answer on the loop.
//
// It knows bytes, not RES: what messages mean is the business of the Handler. It never parses JSON,
// never talks to services, and never blocks a loop.
//
// # Iterations
//
// A loop works in iterations. An iteration begins by reading the clock and firing due timers; then
// comes what caused it (bytes of the connections that are ready, or a wake-up); then
// Handler.Iterate; and at its end every connection that got something to send is written once, and
// connections that are to go are closed. Only if they are many does that take several iterations
// (writequeue.go), so that nobody else waits for it. Between iterations the loop waits as a
// goroutine does, not in gnet, where it can (wait.go says why and how). So a Handler never sees a
// connection closed under its hands, and whatever it sends to one connection in an iteration, or
// before that connection's part of the line has come, leaves in one write.
//
// Files in reading order: options.go, engine.go, loop.go, wait.go (over package park), conn.go,
// state.go, input.go, http.go, ws.go, ending.go, upgrade.go, stream.go, request.go, proxy.go,
// outbox.go, writequeue.go, flush.go, flush_choice.go, flush_uring_linux.go (over package uring),
// handover.go, drain.go; then tls.go, tls_handshake.go, tls_link.go, tls_handover.go,
// tls_buffers.go.
package netpoll
