package takeover

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// commitWait bounds the wait for the old process's last word. After it the new one serves on: it
// cannot know whether the old one still accepts, and both may.
const commitWait = time.Minute

// joinWait is how long Join waits for the gateway's introduction: its predecessor's clients may
// still arrive there.
const joinWait = 2 * time.Minute

// Listener is a listening socket that was handed over.
type Listener struct {
	Role string
	net.Listener
}

// Predecessor is the process that this one takes over from. A nil Predecessor is none. Its methods
// are called one after the other.
type Predecessor struct {
	Version   string // of its program, for people
	Check     bool   // it only asks whether this process could take over
	Listeners []Listener
	link      *link
}

// Inherit returns the process that has started this one to take over, nil if none has, or why that
// is not possible. environ is like os.Environ.
func Inherit(environ []string, version string) (*Predecessor, error) {
	number := ""
	for _, e := range environ {
		if n, v, _ := strings.Cut(e, "="); n == variable {
			number = v
		}
	}
	if number == "" {
		return nil, nil
	}
	fd, err := strconv.Atoi(number)
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("%s=%s: it is set by a process that starts its successor, and must not be set otherwise", variable, number)
	}
	l, err := newLink(os.NewFile(uintptr(fd), "takeover"))
	if err != nil {
		return nil, fmt.Errorf("%s=%s is no socket of a process to take over from: %w", variable, number, err)
	}
	p, err := l.inherit(version, helloWait)
	if err != nil {
		_ = l.send(kindFailed, failure{err.Error()})
		l.close()
	}
	return p, err
}

// Join asks the gateway that takes orders at path to hand over to this process, and returns it: nil
// if nobody listens there, or why that is not possible.
func Join(path, version string) (*Predecessor, error) {
	c, err := net.DialTimeout("unix", path, orderWait)
	if Nobody(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the gateway at %s cannot be asked: %w", path, err)
	}
	l := &link{conn: c.(*net.UnixConn)}
	if err = sameUser(c); err == nil {
		err = json.NewEncoder(c).Encode(order{TakeOver: true, Patience: joinWait})
	}
	var p *Predecessor
	if err == nil {
		p, err = l.inherit(version, joinWait)
	}
	if err != nil {
		l.close()
		return nil, fmt.Errorf("the gateway at %s does not hand over: %w", path, err)
	}
	return p, nil
}

// inherit receives what comes before the new process knows its settings. patience bounds the wait
// for the old process's introduction.
func (l *link) inherit(version string, patience time.Duration) (*Predecessor, error) {
	r, err := l.receive(patience, kindHello, kindFailed)
	if err != nil {
		return nil, fmt.Errorf("the old process does not introduce itself: %w", err)
	}
	if r.kind == kindFailed {
		return nil, r.failure()
	}
	var peer hello
	if err := r.decode(&peer); err != nil {
		return nil, err
	}
	if peer.Protocol != Protocol {
		return nil, fmt.Errorf("the old process (%s) speaks version %d of the take-over protocol, this one (%s) %d: restart instead", peer.Version, peer.Protocol, version, Protocol)
	}
	if err := l.send(kindHello, hello{Protocol: Protocol, Version: version}); err != nil {
		return nil, err
	}
	p := &Predecessor{Version: peer.Version, Check: peer.Check, link: l}
	if r, err = l.receive(helloWait, kindSockets); err != nil {
		return nil, fmt.Errorf("the listening sockets do not arrive: %w", err)
	}
	defer r.close() // the listeners have duplicates
	var s sockets
	if err := r.decode(&s); err != nil {
		return nil, err
	}
	if len(s.Roles) != len(r.files) {
		return nil, fmt.Errorf("%d roles for %d listening sockets", len(s.Roles), len(r.files))
	}
	for i, role := range s.Roles {
		switch role {
		case Clients, Metrics, Admin, Control, ActivatedClients, ActivatedMetrics:
		default:
			p.closeListeners()
			return nil, fmt.Errorf("a listening socket has the unknown role %q", role)
		}
		listener, err := net.FileListener(r.files[i])
		if err != nil {
			p.closeListeners()
			return nil, fmt.Errorf("the socket for %s does not listen: %w", role, err)
		}
		p.Listeners = append(p.Listeners, Listener{role, listener})
	}
	return p, nil
}

// Take returns the listeners of a role that have one of the addresses that match accepts. They
// belong to the caller.
func (p *Predecessor) Take(role string, match func(net.Addr) bool) (taken []net.Listener) {
	if p == nil {
		return nil
	}
	rest := p.Listeners[:0]
	for _, l := range p.Listeners {
		if l.Role == role && match(l.Addr()) {
			taken = append(taken, l.Listener)
		} else {
			rest = append(rest, l)
		}
	}
	p.Listeners = rest
	return taken
}

// Step tells the old process what this one is doing.
func (p *Predecessor) Step(text string) {
	if p != nil {
		_ = p.link.send(kindStep, step{text})
	}
}

// Ready says that this process serves, or with Check that it could, and waits until the old process
// has left the rest to this one. The old process may be gone: then this one is in charge all the
// more. Listeners that were not taken are closed. Receive may follow. takes has the kinds of
// connections that this process can go on with. The error is why the old process goes on after all:
// then this one is to end.
func (p *Predecessor) Ready(takes ...string) error {
	if p == nil {
		return nil
	}
	p.closeListeners()
	if p.link.send(kindReady, ready{takes}) == nil && !p.Check {
		r, err := p.link.receive(commitWait, kindCommit, kindFailed)
		if err == nil && r.kind == kindFailed {
			p.link.close()
			return r.failure()
		}
		if err == nil {
			if r, err = p.link.receive(commitWait, kindConns); err == nil {
				r.close() // it has none
				return nil
			}
		}
	}
	p.link.close()
	return nil
}

// connsWait bounds the wait for further connections. It is longer than any drain.
const connsWait = 25 * time.Hour

// Receive passes the old process's connections to a Taker, after Ready and until that process has
// ended.
func (p *Predecessor) Receive(to Taker) error {
	defer p.link.close()
	var b batch
	defer b.end(to)
	for {
		r, err := p.link.receive(connsWait, kindConns, kindPrepare, kindKeys, kindPart, kindMove, kindYours, kindBack)
		if errors.Is(err, errEnded) || errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := b.handle(p.link, &r, to); errors.Is(err, errEnded) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

var errKeys = errors.New("the keys of connections at rest are not theirs")

// conns calls take with the connections of a record, and their keys.
func (r *record) conns(keys []byte, take func(Conn)) error {
	var s conns
	if err := r.decode(&s); err != nil {
		return err
	}
	if len(s.Conns) != len(r.files) {
		return fmt.Errorf("%d descriptions for %d connections", len(s.Conns), len(r.files))
	}
	rest := len(keys)
	for _, c := range s.Conns {
		if c.KeysLen < 0 || c.KeysLen > rest {
			return errKeys
		}
		rest -= c.KeysLen
	}
	if rest > 0 {
		return errKeys
	}
	fds, err := r.take()
	if err != nil {
		return err
	}
	for i, c := range s.Conns {
		c.FD = fds[i]
		c.Keys, keys = keys[:c.KeysLen], keys[c.KeysLen:]
		take(c)
	}
	return nil
}

// Fail says why this process cannot take over.
func (p *Predecessor) Fail(err error) {
	if p == nil {
		return
	}
	p.closeListeners()
	if err == nil {
		err = errors.New("stopped")
	}
	_ = p.link.send(kindFailed, failure{err.Error()})
	p.link.close()
}

func (p *Predecessor) closeListeners() {
	for _, l := range p.Listeners {
		_ = l.Close()
	}
	p.Listeners = nil
}
