// Package hostile is clients that want to take a server's time from others: they send frames of a
// mebibyte that cost most to read, as fast as the server takes them, and connect again when they
// are closed.
//
// It owns its connections, at most MaxAttackers at a time, to servers on the loopback only, and for
// a bounded time. It counts what it has sent and how it was closed, and measures nothing: that is
// up to the other clients. Worker runs it as a process of its own, after the clients that share its
// cores.
package hostile
