// Package httpapi owns the HTTP face of resources: it turns requests into RES requests and
// resources into HTTP answers (RES.md section 4). That is paths, encodings, statuses, CORS, what
// services say about the response (meta), conditional requests, content codings, and streams of
// server-sent events where net/http carries them.
//
// A [Handler] serves net/http. Another server makes the same answers by [Handler.Plan],
// [Handler.Got] and [Handler.Called], and writes them with [Answer.AppendHead].
//
// It never talks to NATS, never holds a resource, a session or a token, and knows no event loop: a
// [Backend] gets the graph of a resource, calls its methods and feeds its streams. What comes from
// a backend is immutable and only read.
//
// # Reading order
//
// handler.go (a request from its first to its last line), answer.go (what is asked and what is
// answered), path.go (resource IDs and paths), encode.go (a graph as JSON), meta.go and status.go
// (what decides about status and header), cors.go, negotiate.go and compress.go (what the client's
// header asks for), stream.go (server-sent events).
//
// # What may be relied on
//
//   - A [Handler] is immutable after [New], but for its counters, and safe for concurrent use.
//   - Everything is bounded: a request's body, an answer's bytes and depth, what waits for the
//     reader of a stream.
//   - Equal snapshots give equal bytes, so the entity tag of an answer is the hash of its content
//     and survives a restart.
package httpapi
