// Package wsproto is the WebSocket protocol, RFC 6455, as functions on byte
// slices: the request head and the opening handshake (section 4), the frames of
// a client and those of a server (section 5), closing (section 7), UTF-8 (section
// 8), and compression of messages, permessage-deflate of RFC 7692.
//
// It owns what a connection must remember between two reads: HeadScanner while
// the head comes in, Parser afterwards. Both are a few words that a connection
// holds by value; nothing else in the package has state, but for pools of idle
// compressors and decompressors.
//
// It never reads, writes, waits, starts a goroutine or looks at a clock, it
// never takes memory for bytes that have not arrived, and it knows nothing of
// what the messages mean. Sending what must be sent (a pong, the echo of a
// close frame) is the caller's business.
//
// It is built on gobwas/ws: its opcodes, codes, sizes and cipher. Where something
// of ours stands in for a function of that package, a comment says what it gains.
//
// Everything a client sends passes two gates, and each check has a named error:
// a request head is refused with a HandshakeError, which carries the HTTP
// answer; a frame is refused with a CloseError, which carries the close code.
// The outcome never depends on how the bytes were cut into reads.
//
// Nothing here is safe for concurrent use by itself; different values may be
// used by different goroutines at the same time.
package wsproto
