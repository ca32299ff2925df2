// Package wsproto implements the WebSocket protocol, RFC 6455, as functions on byte slices. It
// covers the request head and the opening handshake (section 4), client and server frames (section
// 5), closing (section 7), UTF-8 (section 8) and compression, permessage-deflate of RFC 7692.
//
// It owns the parse state of a connection between two reads: a HeadScanner for the request head,
// and a Parser for the frames after it. Both are a few words, which a connection holds by value.
// The only other state is pools of idle compressors and decompressors.
//
// It never reads, writes, waits, starts a goroutine or reads a clock, and it never allocates memory
// for bytes that have not arrived. It knows nothing of what the messages mean. The caller sends the
// pong and echoes the close frame.
//
// It builds on gobwas/ws: its opcodes, codes, sizes and cipher. Where a function here replaces one
// of that package, a comment says what it gains.
//
// Each check of client input has a named error. A rejected request head yields a HandshakeError
// with the HTTP response, and a rejected frame a CloseError with the close code. The outcome never
// depends on how the bytes were split into reads.
//
// A value must not be used by two goroutines at once; separate values are independent.
package wsproto
