//go:build linux

package wire

import (
	"net"
	"sync"
	"time"
)

// Relay relays TCP connections, between a gateway and a NATS node. While it is cut, bytes of both
// directions vanish, and no connection is told: there is no FIN and no RST. New connections are
// accepted and then silent, as one whose first packets get through. When the cut ends, the
// connections of before and of the cut are reset, as a peer does that no longer knows them.
type Relay struct {
	listener net.Listener
	to       string

	mu    sync.Mutex
	cut   bool
	ended bool
	links map[*link]bool
}

// link is one relayed connection.
type link struct{ client, server net.Conn }

// NewRelay relays connections from a free port of the loopback to an address.
func NewRelay(to string) (*Relay, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Relay{listener: l, to: to, links: map[*link]bool{}}
	go p.accept()
	return p, nil
}

// Addr returns the address that it relays from.
func (p *Relay) Addr() string { return p.listener.Addr().String() }

func (p *Relay) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		go p.serve(c)
	}
}

// serve relays a connection until either side ends it.
func (p *Relay) serve(c net.Conn) {
	l := &link{client: c}
	if !p.add(l) {
		Reset(c)
		return
	}
	if !p.isCut() {
		s, err := net.DialTimeout("tcp", p.to, 5*time.Second)
		if err != nil { // the node does not run
			p.drop(l)
			return
		}
		p.mu.Lock()
		l.server = s
		p.mu.Unlock()
		go p.pump(l, s, c)
	}
	p.pump(l, c, l.server)
}

// pump copies bytes from one side to the other; none while the relay is cut.
func (p *Relay) pump(l *link, from, to net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		switch {
		case p.isCut():
			if err != nil { // the other side must not learn of it
				return
			}
			continue
		case err != nil || to == nil:
			p.drop(l)
			return
		}
		if _, err := to.Write(buf[:n]); err != nil && !p.isCut() {
			p.drop(l)
			return
		}
	}
}

func (p *Relay) isCut() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cut
}

// Busy reports whether it relays a connection.
func (p *Relay) Busy() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links) > 0
}

// add registers a connection; false if the relay is closed.
func (p *Relay) add(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		p.links[l] = true
	}
	return !p.ended
}

// drop ends both sides of a connection.
func (p *Relay) drop(l *link) {
	p.mu.Lock()
	delete(p.links, l)
	server := l.server
	p.mu.Unlock()
	Reset(l.client)
	Reset(server)
}

// SetCut begins or ends a cut.
func (p *Relay) SetCut(cut bool) {
	p.mu.Lock()
	p.cut = cut
	var all []*link
	if !cut {
		for l := range p.links {
			all = append(all, l)
		}
	}
	p.mu.Unlock()
	for _, l := range all {
		p.drop(l)
	}
}

// Close ends the relay and its connections.
func (p *Relay) Close() {
	_ = p.listener.Close()
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	p.SetCut(false)
}

// Reset closes a connection with RST.
func Reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok && tcp != nil {
		_ = tcp.SetLinger(0)
	}
	if c != nil {
		_ = c.Close()
	}
}
