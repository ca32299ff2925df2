package netpoll

import (
	"errors"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"sluice/internal/owner"
	"sluice/netpoll/tlskeys"
)

// ErrNoSockets says that the engine's listening sockets cannot be had.
var ErrNoSockets = errors.New("netpoll: the listening sockets cannot be handed over on this system: it needs Linux and /proc")

// Sockets returns duplicates of the sockets that the engine listens on, for another process. The
// caller closes them. Any goroutine may call it, once the engine has started.
func Sockets(e *Engine) (fds []int, err error) {
	defer func() {
		if err != nil {
			closeAll(fds)
			fds = nil
		}
	}()
	for _, l := range e.opts.Listeners {
		fd, err := DupSocket(l)
		if err != nil {
			return fds, err
		}
		fds = append(fds, fd)
	}
	if len(e.opts.Listeners) > 0 {
		return fds, nil
	}
	for _, l := range e.loops {
		p := l.wait.parker.Load()
		if p == nil {
			return fds, ErrNoSockets
		}
		for _, number := range p.Listeners() {
			fd, err := dup(number)
			if err != nil {
				return fds, err
			}
			fds = append(fds, fd)
			// If gnet has just ended, the number may be another file's by now.
			if is, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || is == 0 {
				return fds, errors.New("netpoll: the engine is being restarted: try again")
			}
		}
	}
	if len(fds) == 0 {
		return nil, ErrNoSockets
	}
	return fds, nil
}

// Departed is a connection that another process is to go on with. It is HTTP, and at rest between
// two requests, or before the first one.
type Departed struct {
	FD     int            // the receiver closes it
	Client netip.AddrPort // address that a proxy has given; invalid: the peer is the client
	Idle   bool           // a request was answered on it
	Keys   []byte         // of TLS 1.3, which the receiver overwrites; nil: plaintext
	In     []byte         // with TLS: the beginning of a record
}

// Leave ends listening, because another process accepts from the same sockets (Sockets). No client
// is refused: what the kernel has queued is left to that process, and the connections that were
// accepted before are served until Drain. From now on give gets the connections that are at rest,
// on a goroutine of its own; Drain waits for it. Those of net/http are among them if it tells them
// of http.StateIdle (their method Idle), and those with TLS 1.3 if secure is set. The others are
// closed in the drain. Any goroutine may call Leave.
func Leave(e *Engine, secure bool, give func([]Departed)) {
	e.givesTLS.Store(secure)
	e.give.Store(&give)
	e.left.Store(true)
	passed{e}.close()
	for _, l := range e.loops {
		l.Wake()
	}
	e.atHTTP.end()
}

// DupSocket returns a duplicate of a listener's descriptor that child processes do not inherit.
func DupSocket(l net.Listener) (fd int, err error) {
	c, ok := l.(syscall.Conn)
	if !ok {
		return -1, ErrNoSockets
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	if end := raw.Control(func(from uintptr) { fd, err = dup(int(from)) }); end != nil {
		return -1, end
	}
	return fd, err
}

// CloseFD closes the descriptor of a connection that cannot be gone on with.
func CloseFD(fd int) { _ = unix.Close(fd) }

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

// depart gives the connections at rest to the other process.
func (d *drain) depart() (gone int) {
	l := d.loop
	var batch []Departed
	for i := range l.table.slots {
		c := l.table.slots[i].conn
		if c == nil || !c.ending().departs() {
			continue
		}
		l.iter.conn = c
		batch = c.ending().depart(batch)
	}
	l.iter.conn = nil
	d.give(batch)
	return len(batch)
}

// depart appends the connection to those that leave, if it is at rest. If it cannot leave, it is
// closed in the drain.
func (c endingConn) depart(batch []Departed) []Departed {
	if !c.atRest() {
		return batch
	}
	fd, err := dup(int(c.fd))
	if err != nil {
		return batch
	}
	b := Departed{FD: fd, Idle: c.flags&flagIdle != 0}
	if c.flags&flagProxied != 0 {
		b.Client = c.RemoteAddrPort()
	}
	if c.link() != nil {
		var s WebSocket
		c.tls().export(&s)
		b.Keys, b.In = s.Keys.Append(make([]byte, 0, tlskeys.MaxLen)), s.TLS.In
		s.Keys.Wipe()
	}
	c.to(stateHandover)
	c.standing |= moved
	c.scheduleClose() // of our descriptor
	return append(batch, b)
}

// give gives connections to the other process. The loop has not reported to be empty.
func (d *drain) give(batch []Departed) {
	e := d.loop.engine
	if len(batch) == 0 {
		return
	}
	e.metrics.Departed.Add(uint64(len(batch)))
	e.drained.Add(1)
	go func() {
		defer e.drained.Done()
		defer e.opts.Faults.Contain(owner.HTTP)
		(*e.give.Load())(batch)
	}()
}

// closesIdle reports whether the connection is closed when it is at rest, because of a drain in
// which it cannot depart.
func (c endingConn) closesIdle() bool {
	return c.loop.engine.draining.Load() && !c.departs()
}

// departs reports whether another process can go on with the connection, once it is at rest.
func (c endingConn) departs() bool {
	e := c.loop.engine
	return e.left.Load() && (c.link() == nil || e.givesTLS.Load() && !Stays(c.Conn))
}

// atRest reports whether the socket, and the keys of TLS, are all that there is of a connection.
func (c endingConn) atRest() bool {
	return c.state == stateHead && c.in.empty() && c.queued == 0 && c.flags&(flagBody|flagEnded|flagReserve) == 0 && !c.readPaused && c.gc != nil &&
		c.tls().movable() && (c.link() == nil || c.link().out.empty())
}

// Arrive goes on with a connection from another process. It owns the descriptor, and may wait until
// a loop has taken it. The keys stay the caller's.
func Arrive(e *Engine, d Departed) error {
	c, err := fdConn(d.FD)
	if err != nil {
		return err
	}
	link, err := d.link(e)
	if err != nil {
		_ = c.Close()
		return err
	}
	return e.register(c, &adopted{client: d.Client, arrived: true, idle: d.Idle, link: link, sealed: d.In}, nil)
}

// link makes the TLS of the connection; nil: it has none.
func (d *Departed) link(e *Engine) (*tlsLink, error) {
	var s WebSocket
	if len(d.Keys) > 0 {
		k, rest, err := tlskeys.Parse(d.Keys)
		if err != nil || len(rest) > 0 {
			return nil, errSealed
		}
		defer k.Wipe()
		s.Keys, s.TLS = k, new(Sealed)
	}
	return importTLS(e, &s)
}
