package natstest

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// greeting is what a server says first. The rest of a handshake is the reply to a ping.
const greeting = `INFO {"server_id":"silent","version":"2.10.0","proto":1,"max_payload":1048576}` + "\r\n"

// Silent is a NATS server that has hung: the kernel accepts connections for it, and what they send
// has no reply.
type Silent struct {
	listener net.Listener
	accepted atomic.Int64
	open     atomic.Int64
}

// StartSilent runs one until the test ends. If it greets, it hangs after its first line.
func StartSilent(tb testing.TB, greets bool) *Silent {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	s := &Silent{listener: l}
	var conns sync.WaitGroup
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.accepted.Add(1)
			conns.Go(func() {
				s.open.Add(1)
				defer s.open.Add(-1)
				if greets {
					_, _ = io.WriteString(c, greeting)
				}
				_, _ = io.Copy(io.Discard, c) // until the client gives up
				_ = c.Close()
			})
		}
	}()
	tb.Cleanup(func() {
		_ = l.Close()
		<-ended
		conns.Wait()
	})
	return s
}

// URL returns the server's address.
func (s *Silent) URL() string { return "nats://" + s.listener.Addr().String() }

// Accepted returns how many connections there have been.
func (s *Silent) Accepted() int { return int(s.accepted.Load()) }

// Open returns how many connections its clients have not closed.
func (s *Silent) Open() int { return int(s.open.Load()) }
