// Package httpedge owns the HTTP side of a gateway: which part of it answers a request, and
// everything about a client that its request's head tells.
//
// # How a GET is answered
//
// A GET of a resource takes one of three ways, all of which end in the same calls of package
// httpapi:
//
//   - On the event loop that has the connection (plain.go): a plain request of HTTP/1.1, which is
//     the usual case. The request is a session on that loop for as long as it lasts.
//   - Through net/http (server.go, backend.go): everything that netpoll hands over, such as HTTP/2,
//     HTTP/1.0, chunked bodies, and requests after such a one on the same connection. The request's
//     goroutine lets one of the loops run the very same session and waits for it.
//   - As a stream (stream.go): a GET that asks for server-sent events is a session that lasts, on
//     its connection's loop or, where net/http carries it, on one of the loops.
//
// The responses are the same because no way makes any of its own: [httpapi.Handler.Plan] decides
// what a request asks for, a session of package session gets it, and [httpapi.Handler.Got] makes
// the response. What differs is only who waits, and who writes the bytes. internal/restest compares
// the ways byte by byte.
//
// # Owners
//
// An [Edge] is immutable after New but for its counters and safe for concurrent use. A [Loop]
// belongs to its event loop. What runs on goroutines of net/http reaches a loop only by its post
// function.
//
// The package never decides what RES means, and never reads or writes a socket of an event loop:
// netpoll does. It does not know WebSocket, but for giving an upgrade that reached net/http back to
// the loops, and for [Loop.Peer], which tells services about a client whose connection stays.
package httpedge
