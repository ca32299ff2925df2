//go:build !invariants

package netpoll

import (
	"crypto/tls"
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// A panic in the middle of a batch that io_uring sends: each connection gets its bytes once, or is
// closed if it is unknown how many it got. The ring is abandoned.
func TestPanicInAURingFlush(t *testing.T) {
	if !haveURing(t) {
		return
	}
	for _, tc := range []struct {
		name    string
		sent    bool
		version uint16
	}{
		{"before the kernel", false, 0},
		{"behind the kernel", true, 0},
		{"before the kernel, TLS", false, tls.VersionTLS13},
		{"behind the kernel, TLS", true, tls.VersionTLS13},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := looseTLSLoop(t)
			var failure error
			calls, ready := kernelURing, 0
			calls.Enter = func(fd int, submit, wait, flags uint32) (int, unix.Errno) {
				if ready == 0 { // the probe of a new ring
					return kernelURing.Enter(fd, submit, wait, flags)
				}
				if ready++; ready == 3 {
					if tc.sent {
						kernelURing.Enter(fd, submit, wait, flags)
					}
					panic("bomb: io_uring")
				}
				return kernelURing.Enter(fd, submit, wait, flags)
			}
			u, err := newURingFlusher(calls, 16, func(err error) { failure = err })
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(u.close)
			ready = 1
			l.output.flusher = u
			conns, peers := pairs(t, l, 50)
			read := func(i int) []byte { return readAll(t, peers[i]) }
			if tc.version != 0 {
				read = secureAll(t, conns, peers, tc.version)
			}
			closing := 0
			for round := range 2 {
				for _, c := range conns {
					c.Send([]byte{byte(round)})
				}
				l.iter.run(stepWrite, stepWrite)
				for i := range peers {
					got := read(i)
					switch {
					case conns[i].state >= stateReap:
						if round == 0 {
							closing++
						}
						if len(got) > 1 {
							t.Errorf("round %d: a closed connection got %v", round, got)
						}
					case len(got) != 1 || got[0] != byte(round):
						t.Errorf("round %d: connection %d got %v", round, i, got)
					}
				}
			}
			if !errors.Is(failure, errInterrupted) || u.ring != nil || closing == 0 || closing > 16 {
				t.Errorf("failure %v, ring %v, %d connections closed", failure, u.ring != nil, closing)
			}
		})
	}
}
