package netpoll

import (
	"context"
	"io"
	"net"
	"testing"
)

// refuseAll is a Handler that no connection gets as far as.
type refuseAll struct{ Handler }

func (refuseAll) Start(*Loop)   {}
func (refuseAll) Iterate(*Loop) {}

// TestRestartOnTheSamePort: connections that the server closed first stay in the kernel's TIME_WAIT
// for a minute; a new engine must be able to listen on their port all the same.
func TestRestartOnTheSamePort(t *testing.T) {
	addr := "127.0.0.1:0"
	for range 3 {
		e, err := New(Options{Addr: addr, Loops: 2, Handler: refuseAll{}, Limits: Limits{DrainWindow: -1}})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Start(); err != nil {
			t.Fatal(err)
		}
		addr = e.Addr().String()
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("nonsense\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(c); err != nil { // answered, then closed by the server
			t.Fatal(err)
		}
		_ = c.Close()
		if err := e.Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}
