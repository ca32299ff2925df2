package natsbus

import (
	"errors"
	"strings"

	"github.com/nats-io/nats.go"
)

// Reason is why a connection was lost.
type Reason uint8

const (
	// Broken: the connection ended, or a write failed.
	Broken Reason = iota
	// Stale: pongs were missing.
	Stale
	// Unauthorized: the server rejects the credentials.
	Unauthorized
	// LargePayload: a message exceeded the server's max_payload.
	LargePayload
	// LongLine: a protocol line exceeded the server's max_control_line.
	LongLine
	// Expelled: the server gave another error and closed the connection.
	Expelled
	// Reasons is how many reasons there are.
	Reasons
)

func (r Reason) String() string {
	return [...]string{"broken", "stale", "unauthorized", "max_payload", "max_control_line", "expelled"}[r]
}

// ReasonOf returns the reason of an error from nats.go.
func ReasonOf(err error) Reason {
	switch {
	case err == nil:
		return Broken
	case errors.Is(err, nats.ErrStaleConnection):
		return Stale
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired),
		errors.Is(err, nats.ErrAuthRevoked), errors.Is(err, nats.ErrAccountAuthExpired):
		return Unauthorized
	}
	text := strings.ToLower(err.Error())
	switch {
	case strings.Contains(text, "maximum payload"):
		return LargePayload
	case strings.Contains(text, "maximum control line"):
		return LongLine
	case errors.Is(err, nats.ErrMaxConnectionsExceeded), errors.Is(err, nats.ErrMaxAccountConnectionsExceeded),
		strings.HasPrefix(text, "nats: "):
		return Expelled
	}
	return Broken
}
