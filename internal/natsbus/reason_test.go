package natsbus

import (
	"errors"
	"io"
	"testing"

	"github.com/nats-io/nats.go"
)

// Each error of nats.go that ends a connection has its reason, in metrics and log.
func TestReasonOf(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want Reason
	}{
		{nil, Broken},
		{io.EOF, Broken},
		{nats.ErrStaleConnection, Stale},
		{nats.ErrAuthorization, Unauthorized},
		{nats.ErrAuthExpired, Unauthorized},
		{nats.ErrAuthRevoked, Unauthorized},
		{nats.ErrAccountAuthExpired, Unauthorized},
		{errors.New("nats: Maximum Payload Violation"), LargePayload},
		{errors.New("nats: maximum control line exceeded"), LongLine},
		{nats.ErrMaxConnectionsExceeded, Expelled},
		{nats.ErrMaxAccountConnectionsExceeded, Expelled},
		{errors.New("nats: Unknown Protocol Operation"), Expelled},
	} {
		if got := ReasonOf(tt.err); got != tt.want {
			t.Errorf("%v: %v, want %v", tt.err, got, tt.want)
		}
	}
}
