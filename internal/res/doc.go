// Package res implements the RES protocol's vocabulary and wire format: resource IDs, patterns,
// values, errors and protocol versions, and the codecs of client and service messages.
//
// It is pure functions on bytes. It never holds a connection, a resource or a subscription, never
// does I/O, never starts a goroutine and keeps no state but the scratch memory of a Parser.
//
// # Guarantees
//
//   - A Parser accepts strict JSON (RFC 8259) in valid UTF-8, nested at most MaxDepth deep.
//   - Every raw value in a result is compact JSON in valid UTF-8. A browser drops a connection that
//     sends anything else, so a service's text is checked here once and then forwarded unchanged.
//   - The caller owns the strings in results. The doc comment of each byte slice says how long it
//     is valid.
//   - If JSON repeats a key, the last one wins.
//   - A lone escaped surrogate ("\ud83d") is valid JSON but not valid text. It is read as U+FFFD
//     everywhere. JavaScript writes such strings when it cuts one within an emoji.
//
// # Two JSON readers
//
// Client requests, events, resources and the envelopes of replies are read by a walk over the
// checked text (cursor.go). Small values off the path of an event are read into a fastjson tree
// (tree.go): errors, meta, access results, system and query events. The head of cursor.go has the
// figures behind this division.
//
// # Reading order
//
// value.go and error.go (what a resource consists of), rid.go, subject.go and pattern.go (its
// names), version.go, check.go, cursor.go, json.go, gather.go and tree.go (how text is read), then
// request.go (client to gateway), encode.go (gateway to client and to service), answer.go, event.go
// and system.go (service to gateway).
package res
