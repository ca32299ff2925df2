package simulation

import (
	"net/netip"

	"sluice/netpoll"
)

// peer is the client's side of a connection. It is the netpoll.Socket of it.
type peer struct {
	w      *world
	name   string
	loop   int
	serial int // of its connections

	conn    *netpoll.DrivenConn // nil: not connected
	out     []byte              // on its way to the gateway
	in      []byte              // on its way from the gateway
	got     []byte              // read, and not complete
	room    int                 // bytes that in takes
	stalled bool                // does not read
	stalls  bool                // it has stalled on this connection
	closed  func()              // called when the gateway has closed the connection
}

// open connects the client, and reconnects it.
func (p *peer) open() {
	p.serial++
	p.out, p.in, p.got = nil, nil, nil
	p.stalled, p.stalls = false, false
	p.w.logf("%s connects", p.name)
	p.conn = p.w.net4.Loops[p.loop].Open(p, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(p.loop)}), uint16(1024+p.serial)))
}

// leave closes the connection without a word.
func (p *peer) leave() {
	p.w.logf("%s leaves", p.name)
	conn := p.conn
	p.gone()
	conn.End()
}

func (p *peer) gone() { p.conn, p.out, p.in, p.got = nil, nil, nil, nil }

// Write implements netpoll.Socket.
func (p *peer) Write(b []byte) (n int, ok bool) {
	n = min(len(b), p.room-len(p.in))
	p.in = append(p.in, b[:n]...)
	return n, true
}

// Closed implements netpoll.Socket.
func (p *peer) Closed() {
	if p.conn == nil {
		return
	}
	p.w.logf("%s is closed", p.name)
	p.closed()
}

// deliver has the gateway read what the client has sent, or a part of it.
func (p *peer) deliver() {
	n := len(p.out)
	if p.w.one(6) {
		n = 1 + p.w.pick(n)
	}
	b := p.out[:n]
	p.out = p.out[n:]
	p.conn.Receive(b)
}

// stall has the client stop reading, or go on.
func (p *peer) stall(yes bool) {
	p.stalled = yes
	if yes {
		p.stalls = true
		p.w.logf("%s stalls", p.name)
	} else {
		p.w.logf("%s reads on", p.name)
	}
}
