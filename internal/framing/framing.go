// Package framing turns a RES message into the bytes that a client receives: a WebSocket text
// frame, plain or compressed, or a server-sent event. For the trace log it also takes the message
// out again.
//
// The hubs of package fanout call its functions once per event, loop and form. It never writes to a
// connection, and never keeps state.
package framing

import (
	"bytes"

	"sluice/fanout"
	"sluice/internal/metrics"
	"sluice/wsproto"
)

// What surrounds the message of a server-sent event.
const (
	eventStart = "data: "
	eventEnd   = "\n\n"
)

// Framers returns the framer of each form. Messages of threshold bytes or more are compressed for
// clients that negotiated it, and counted in compressed.
func Framers(threshold int, compressed *metrics.Counter) fanout.Framers {
	return fanout.Framers{
		fanout.Message: frame,
		fanout.Deflated: func(dst, message []byte) []byte {
			if len(message) < threshold {
				return frame(dst, message)
			}
			compressed.Inc()
			return wsproto.AppendDeflated(dst, wsproto.OpText, message)
		},
		fanout.Stream: event,
	}
}

// Share makes hub share the encoding of large resource sets among WebSocket clients. A stream gets
// a set as one whole event, which is not shared.
func Share(hub *fanout.Hub, threshold int) {
	hub.Share(fanout.Message, firstFrame, wsproto.AppendLast)
	if threshold <= fanout.ShareFrom {
		hub.Share(fanout.Deflated, firstDeflated, wsproto.AppendDeflatedLast)
	}
}

// frame appends a WebSocket text frame.
func frame(dst, message []byte) []byte { return wsproto.AppendFrame(dst, wsproto.OpText, message) }

func firstFrame(dst, message []byte) []byte { return wsproto.AppendFirst(dst, wsproto.OpText, message) }

func firstDeflated(dst, message []byte) []byte {
	return wsproto.AppendDeflatedFirst(dst, wsproto.OpText, message)
}

// event appends a server-sent event. A message has no line breaks.
func event(dst, message []byte) []byte {
	dst = append(dst, eventStart...)
	return append(append(dst, message...), eventEnd...)
}

// payload returns the payload of an unmasked frame (RFC 6455 section 5.2).
func payload(frame []byte) []byte {
	switch frame[1] {
	case 126:
		return frame[4:]
	case 127:
		return frame[10:]
	}
	return frame[2:]
}

// eventData returns the message of a server-sent event that event has made.
func eventData(b []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimPrefix(b, []byte(eventStart)), []byte(eventEnd))
}
