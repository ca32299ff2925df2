//go:build linux

package soak

import (
	"net"
	"sync"
	"time"
)

// proxy relays TCP connections, between a gateway and a NATS node. While it is cut, bytes of both
// directions vanish, and no connection is told: there is no FIN and no RST. New connections are
// accepted and then silent, as one whose first packets get through. When the cut ends, the
// connections of before and of the cut are reset, as a peer does that no longer knows them.
type proxy struct {
	listener net.Listener
	to       string

	mu    sync.Mutex
	cut   bool
	ended bool
	links map[*link]bool
}

// link is one relayed connection.
type link struct{ client, server net.Conn }

// newProxy relays connections from a free port of the loopback to an address.
func newProxy(to string) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: l, to: to, links: map[*link]bool{}}
	go p.accept()
	return p, nil
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		go p.serve(c)
	}
}

// serve relays a connection until either side ends it.
func (p *proxy) serve(c net.Conn) {
	l := &link{client: c}
	if !p.add(l) {
		reset(c)
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

// pump copies bytes from one side to the other; none while the proxy is cut.
func (p *proxy) pump(l *link, from, to net.Conn) {
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

func (p *proxy) isCut() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cut
}

// busy reports whether it relays a connection.
func (p *proxy) busy() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links) > 0
}

// add registers a connection; false if the proxy is closed.
func (p *proxy) add(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		p.links[l] = true
	}
	return !p.ended
}

// drop ends both sides of a connection.
func (p *proxy) drop(l *link) {
	p.mu.Lock()
	delete(p.links, l)
	server := l.server
	p.mu.Unlock()
	reset(l.client)
	reset(server)
}

// setCut begins or ends a cut.
func (p *proxy) setCut(cut bool) {
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

// close ends the proxy and its connections.
func (p *proxy) close() {
	_ = p.listener.Close()
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	p.setCut(false)
}

// reset closes a connection with RST.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok && tcp != nil {
		_ = tcp.SetLinger(0)
	}
	if c != nil {
		_ = c.Close()
	}
}
