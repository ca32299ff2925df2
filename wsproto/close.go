package wsproto

import (
	"encoding/binary"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// Close codes (RFC 6455 §7.4.1 and the registry it set up).
const (
	CloseNormal         = uint16(ws.StatusNormalClosure)
	CloseGoingAway      = uint16(ws.StatusGoingAway)
	CloseProtocolError  = uint16(ws.StatusProtocolError)
	CloseUnsupported    = uint16(ws.StatusUnsupportedData)
	CloseNoStatus       = uint16(ws.StatusNoStatusRcvd) // never sent: represents a close frame without a code
	CloseInvalidPayload = uint16(ws.StatusInvalidFramePayloadData)
	ClosePolicy         = uint16(ws.StatusPolicyViolation)
	CloseTooLarge       = uint16(ws.StatusMessageTooBig)
	CloseInternalError  = uint16(ws.StatusInternalServerError)
	CloseServiceRestart = uint16(1012) // entries of the registry that gobwas/ws lacks
	CloseTryAgainLater  = uint16(1013)
)

// CloseError is a protocol violation that fails the connection (RFC 6455 §7.1.7): the caller sends
// a close frame with Code and Reason, then closes. Each is a variable of this package, to be
// compared with ==.
type CloseError struct {
	Code   uint16
	Reason string // at most 123 bytes
}

func (e *CloseError) Error() string { return "wsproto: " + e.Reason }

// The errors of Parser. Sections are of RFC 6455.
var (
	// ErrReservedBits: RSV1, RSV2 or RSV3 is set without an extension (§5.2), or RSV1 in another
	// frame than the first of a message (RFC 7692 §6.1).
	ErrReservedBits = &CloseError{CloseProtocolError, "reserved bit set"}
	// ErrReservedOpcode: 3 to 7 or 11 to 15 (§5.2).
	ErrReservedOpcode = &CloseError{CloseProtocolError, "reserved opcode"}
	// ErrControlFragmented: a control frame without FIN (§5.4, §5.5).
	ErrControlFragmented = &CloseError{CloseProtocolError, "fragmented control frame"}
	// ErrUnexpectedContinuation: a continuation without a message (§5.4).
	ErrUnexpectedContinuation = &CloseError{CloseProtocolError, "continuation frame without a message"}
	// ErrExpectedContinuation: a new message inside a fragmented one (§5.4).
	ErrExpectedContinuation = &CloseError{CloseProtocolError, "new message within a fragmented one"}
	// ErrUnmasked: a client's frame is not masked (§5.1).
	ErrUnmasked = &CloseError{CloseProtocolError, "frame is not masked"}
	// ErrMasked: a server's frame is masked (§5.1).
	ErrMasked = &CloseError{CloseProtocolError, "frame is masked"}
	// ErrControlTooLong: a control frame of more than 125 bytes (§5.5).
	ErrControlTooLong = &CloseError{CloseProtocolError, "control frame too long"}
	// ErrLengthSign: the most significant bit of a 64-bit length is set (§5.2).
	ErrLengthSign = &CloseError{CloseProtocolError, "invalid frame length"}
	// ErrLengthEncoding: a length in more bytes than it needs (§5.2).
	ErrLengthEncoding = &CloseError{CloseProtocolError, "frame length not minimally encoded"}
	// ErrMessageTooLarge: beyond Limits.Message (§7.4.1, code 1009; §10.4).
	ErrMessageTooLarge = &CloseError{CloseTooLarge, "message too large"}
	// ErrInvalidUTF8: a text message that is not UTF-8 (§5.6, §8.1).
	ErrInvalidUTF8 = &CloseError{CloseInvalidPayload, "text is not valid UTF-8"}
	// ErrCompressed: a compressed message that cannot be inflated (RFC 7692 §7.2.2).
	// No code is defined for it; 1007 means that the data does not match the message's type.
	ErrCompressed = &CloseError{CloseInvalidPayload, "invalid compressed data"}
	// ErrCloseLength: a close frame of one byte (§5.5.1).
	ErrCloseLength = &CloseError{CloseProtocolError, "close frame of one byte"}
	// ErrCloseCode: a close code that must not be sent (§7.4).
	ErrCloseCode = &CloseError{CloseProtocolError, "invalid close code"}
	// ErrCloseReason: a close reason that is not UTF-8 (§5.5.1, §8.1).
	ErrCloseReason = &CloseError{CloseInvalidPayload, "close reason is not valid UTF-8"}
)

// ValidCloseCode reports whether a peer may send code in a close frame (RFC 6455 §7.4): 1000 to
// 1014 except the reserved 1004 to 1006, and 3000 to 4999. 1012 to 1014 are later entries of the
// registry.
func ValidCloseCode(code uint16) bool {
	switch {
	case code < 1000:
		return false
	case code <= 1014:
		return code < 1004 || code > 1006
	default:
		return code >= 3000 && code < 5000
	}
}

// parseClose parses the payload of a close frame (RFC 6455 §5.5.1). Without a payload the code is
// CloseNoStatus.
func parseClose(payload []byte) (code uint16, reason []byte, err error) {
	switch len(payload) {
	case 0:
		return CloseNoStatus, payload, nil
	case 1:
		return 0, nil, ErrCloseLength
	}
	code, reason = binary.BigEndian.Uint16(payload), payload[2:]
	switch {
	case !ValidCloseCode(code):
		return 0, nil, ErrCloseCode
	case !utf8.Valid(reason):
		return 0, nil, ErrCloseReason
	}
	return code, reason, nil
}

// AppendClose appends a server's close frame. A code that is not a ValidCloseCode, such as
// CloseNoStatus, yields a frame without payload, so the code of a received close frame can be
// echoed unchanged. reason is truncated to the longest valid UTF-8 that fits.
func AppendClose(dst []byte, code uint16, reason string) []byte {
	if !ValidCloseCode(code) {
		return AppendHeader(dst, OpClose, 0)
	}
	reason = reason[:validPrefix(reason, MaxControl-2)]
	dst = AppendHeader(dst, OpClose, 2+len(reason))
	dst = binary.BigEndian.AppendUint16(dst, code)
	return append(dst, reason...)
}

// validPrefix returns the length of the longest prefix of s that has at most
// limit bytes and is valid UTF-8.
func validPrefix(s string, limit int) int {
	n := 0
	for n < len(s) {
		r, size := utf8.DecodeRuneInString(s[n:])
		if r == utf8.RuneError && size <= 1 || n+size > limit {
			break
		}
		n += size
	}
	return n
}
