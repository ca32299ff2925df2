package natstest

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// LeafPort is a server's port for leaf nodes, which is reached through a proxy that a test breaks.
type LeafPort struct {
	proxy *proxy
	port  int
}

// NewLeafPort reserves a port until the test ends.
func NewLeafPort(tb testing.TB) *LeafPort { return NewFarLeafPort(tb, 0, 0) }

// NewFarLeafPort reserves a port on a network far away: each packet takes delay, and one in lost
// (0: none) is lost once, which delays those after it on its connection, too.
func NewFarLeafPort(tb testing.TB, delay time.Duration, lost int) *LeafPort {
	tb.Helper()
	p, err := newProxy()
	if err != nil {
		tb.Fatalf("a proxy for leaf nodes: %v", err)
	}
	tb.Cleanup(p.close)
	port, release, err := reservePort()
	if err != nil {
		tb.Fatalf("reserving a port: %v", err)
	}
	tb.Cleanup(release)
	p.target = fmt.Sprintf("127.0.0.1:%d", port)
	p.slow.delay, p.slow.lost = delay, lost
	go p.serve()
	return &LeafPort{p, port}
}

// Open is a change of a server's options: leaf nodes can connect to the port.
func (l *LeafPort) Open(o *server.Options) {
	o.LeafNode.Host, o.LeafNode.Port = "127.0.0.1", l.port
	o.LeafNode.NoAdvertise = true // all reach it through the proxy
}

// Addr returns host:port of the proxy.
func (l *LeafPort) Addr() string { return l.proxy.listener.Addr().String() }

// Cut closes all connections, and new ones until Restore.
func (l *LeafPort) Cut() { l.proxy.cut(true) }

// Restore ends Cut.
func (l *LeafPort) Restore() { l.proxy.cut(false) }

// Freeze keeps all bytes back until Thaw, the ends of connections, too: as a network that drops
// every packet. New connections are accepted.
func (l *LeafPort) Freeze() { l.proxy.freeze(true) }

// Thaw ends Freeze.
func (l *LeafPort) Thaw() { l.proxy.freeze(false) }
