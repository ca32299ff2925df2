// Package res owns the vocabulary of the RES protocol and the form that it has on the wire: resource IDs, patterns, values,
// errors and protocol versions, and the codecs of client messages and service messages.
//
// It knows bytes and rules. It never holds a connection, a resource or a subscription, never does I/O, never starts a
// goroutine and keeps no state but the scratch memory of a Parser.
//
// # What may be relied on
//
//   - Text that a Parser accepts is strict JSON (RFC 8259) in valid UTF-8, at most MaxDepth deep. Every raw value that
//     comes out of it is compact JSON in valid UTF-8: a browser drops a connection that sends anything else, so what a
//     service says is checked here once and then passed on as it is.
//   - Strings in results are the caller's. Byte slices in results say until when they are valid.
//   - Where JSON repeats a key, the last one wins.
//   - An escaped surrogate without its other half ("\ud83d"), which is JSON but no text, is read as U+FFFD wherever it
//     stands. JavaScript writes such strings when it cuts one in the middle of an emoji.
//
// # Reading order
//
// value.go and error.go (what a resource is made of), rid.go, subject.go and pattern.go (its names), version.go,
// check.go, cursor.go, json.go, gather.go and tree.go (how text is read), then request.go (client to gateway),
// encode.go (gateway to client and to service), answer.go, event.go and system.go (service to gateway).
package res
