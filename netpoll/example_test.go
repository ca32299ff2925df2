package netpoll_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"sluice/netpoll"
	"sluice/wsproto"
)

// echo returns each message to its client. All its methods are called on the loop of the
// connection.
type echo struct{}

func (echo) Start(*netpoll.Loop)                               {}
func (echo) Upgrade(*netpoll.Conn, *wsproto.Head) int          { return 0 }
func (echo) Open(*netpoll.Conn, *wsproto.Head)                 {}
func (echo) Stream(*netpoll.Conn, *wsproto.Head) bool          { return false }
func (echo) Request(*netpoll.Conn, *wsproto.Head, []byte) bool { return false }
func (echo) Lagging(*netpoll.Conn)                             {}
func (echo) Closed(*netpoll.Conn)                              {}
func (echo) Iterate(*netpoll.Loop)                             {}

// Message queues the frame in the loop's arena, since payload is valid during the call only. It is
// written at the end of the iteration.
func (echo) Message(c *netpoll.Conn, payload []byte) {
	arena := c.Loop().Arena()
	c.Send(arena.Commit(wsproto.AppendFrame(arena.Begin(), wsproto.OpText, payload)))
}

// A handler gets what clients send, on the event loops. An engine that stops closes its clients.
func Example() {
	e, err := netpoll.New(netpoll.Options{
		Addr: "127.0.0.1:0", WSPath: "/", Handler: echo{}, Log: slog.New(slog.DiscardHandler),
		Limits: netpoll.Limits{DrainWindow: -1}, // close all clients together
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := e.Start(); err != nil {
		fmt.Println(err)
		return
	}
	c, _, _, err := ws.Dial(context.Background(), "ws://"+e.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	err = wsutil.WriteClientText(c, []byte("hello"))
	fmt.Println(receive(c), err)

	stopped := make(chan error)
	go func() { stopped <- e.Stop(context.Background()) }()
	fmt.Println(receive(c)) // this also answers the close frame
	_ = c.Close()
	fmt.Println("stopped:", <-stopped)
	// Output:
	// hello <nil>
	// ws closed: 1001 the gateway is being stopped
	// stopped: <nil>
}

// receive returns a client's next message, or how its connection ended.
func receive(c net.Conn) string {
	b, err := wsutil.ReadServerText(c)
	if err != nil && err != io.EOF {
		return err.Error()
	}
	return string(b)
}
