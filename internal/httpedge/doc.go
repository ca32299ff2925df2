// Package httpedge owns the HTTP side of a gateway: which part of it handles a request, and what a
// request's head says about the client.
//
// # How a GET is handled
//
// A GET of a resource takes one of three paths, all of which end in the same calls of package
// httpapi:
//
//   - On the connection's event loop (plain.go): a plain request of HTTP/1.1, the usual case. The
//     request is a session on that loop until its response.
//   - On net/http (server.go, backend.go): everything that netpoll hands over, such as HTTP/2,
//     HTTP/1.0, chunked bodies, and later requests on such a connection. The request's goroutine
//     posts the same session to one of the loops and waits for it.
//   - As a stream (stream.go): a GET that asks for server-sent events is a session that lasts until
//     the client disconnects, on its connection's loop or, from net/http, on one of the loops.
//
// The responses are the same because the paths share the code that builds them:
// [httpapi.Handler.Plan] decides what a request asks for, a session of package session fetches it,
// and [httpapi.Handler.Got] builds the response. Only what waits, and what writes the bytes,
// differs. internal/restest compares the paths byte by byte.
//
// # Owners
//
// An [Edge] is immutable after New, but for its counters, and safe for concurrent use. A [Loop]
// belongs to its event loop. Goroutines of net/http reach a loop only through its post function.
//
// The package never interprets RES, and never reads or writes a socket of an event loop: session
// and netpoll do. All it knows of WebSocket is how an upgrade that reached net/http returns to the
// loops, and [Loop.Peer], which describes a client to services.
package httpedge
