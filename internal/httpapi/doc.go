// Package httpapi owns the HTTP API of resources: it maps HTTP requests to RES requests, and
// resources and errors to HTTP responses (RES.md section 4). That is paths, encodings, statuses,
// CORS, the status and header that services ask for (meta), conditional requests, content codings,
// and streams of server-sent events on net/http.
//
// A [Handler] serves net/http. Another server builds the same responses with [Handler.Plan],
// [Handler.Got], [Handler.Called] and [Handler.Streamed], and writes them with
// [Response.AppendHead].
//
// It never talks to NATS, never keeps a resource, a session or a token, and knows no event loop: a
// [Backend] fetches the graph of a resource, calls its methods and feeds its streams. What a
// backend returns is immutable.
//
// # Reading order
//
// handler.go (a request from head to response), response.go (the request and the response as data),
// path.go (resource IDs and paths), encode.go (a graph as JSON), meta.go and status.go (status,
// header and errors), cors.go, negotiate.go and compress.go (what the client's header asks for),
// stream.go (server-sent events).
//
// # Invariants
//
//   - A [Handler] is immutable after [New], but for its counters, and safe for concurrent use.
//   - Everything is bounded: a request's body, a response's bytes and depth, the backlog of a
//     stream.
//   - Equal snapshots give equal bytes, so the entity tag of a response is the hash of its content
//     and is the same after a restart.
package httpapi
