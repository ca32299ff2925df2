package netpoll

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestStreamPatience: the socket option says how long a peer may acknowledge nothing, unless pings
// are off.
func TestStreamPatience(t *testing.T) {
	for _, tc := range []struct {
		interval time.Duration
		want     int
	}{{30 * time.Second, 40000}, {-1, 0}} {
		s, begun := serveStreams(t, func(o *Options, _ *testHandler) { o.Limits.PingInterval = tc.interval })
		_, sc := follow(t, s, begun)
		s.on(0, func(*Loop) {
			if got, err := unix.GetsockoptInt(int(sc.fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT); got != tc.want || err != nil {
				t.Errorf("TCP_USER_TIMEOUT is %d (%v), want %d", got, err, tc.want)
			}
		})
	}
}
