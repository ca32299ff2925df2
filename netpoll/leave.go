package netpoll

import (
	"errors"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"sluice/internal/owner"
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

// Departed is a connection that another process is to go on with. It carries nothing but its
// socket: it is plaintext HTTP, and at rest between two requests, or before the first one.
type Departed struct {
	FD     int            // the receiver closes it
	Client netip.AddrPort // address that a proxy has given; invalid: the peer is the client
	Idle   bool           // a request was answered on it
}

// Leave ends listening, because another process accepts from the same sockets (Sockets). No client
// is refused: what the kernel has queued is left to that process, and the connections that were
// accepted before are served until Drain. From now on give gets the connections that are at rest,
// on a goroutine of its own; Drain waits for it. Any goroutine may call Leave.
func Leave(e *Engine, give func([]Departed)) {
	e.give.Store(&give)
	e.left.Store(true)
	passed{e}.close()
	for _, l := range e.loops {
		l.Wake()
	}
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
	if l.tls != nil { // the keys cannot go along
		return 0
	}
	var batch []Departed
	for i := range l.table.slots {
		c := l.table.slots[i].conn
		if c == nil || !c.ending().atRest() {
			continue
		}
		l.iter.conn = c
		fd, err := dup(int(c.fd))
		if err != nil {
			continue // it is closed in the drain
		}
		b := Departed{FD: fd, Idle: c.flags&flagIdle != 0}
		if c.flags&flagProxied != 0 {
			b.Client = c.RemoteAddrPort()
		}
		batch = append(batch, b)
		c.to(stateHandover)
		c.standing |= moved
		c.scheduleClose() // of our descriptor
	}
	l.iter.conn = nil
	if len(batch) > 0 {
		e := l.engine
		e.metrics.Departed.Add(uint64(len(batch)))
		e.drained.Add(1) // the loop has not reported to be empty
		go func() {
			defer e.drained.Done()
			defer e.opts.Faults.Contain(owner.HTTP)
			(*e.give.Load())(batch)
		}()
	}
	return len(batch)
}

// closesIdle reports whether a connection at rest is closed, because of a drain in which it cannot
// depart.
func (d *drain) closesIdle() bool {
	e := d.loop.engine
	return e.draining.Load() && !(e.left.Load() && d.loop.tls == nil)
}

// atRest reports whether the socket is all that there is of a connection.
func (c endingConn) atRest() bool {
	return c.state == stateHead && c.in.empty() && c.queued == 0 && c.flags&(flagBody|flagEnded|flagReserve) == 0 && !c.readPaused && c.gc != nil
}

// Arrive goes on with a connection from another process. It owns the descriptor, and may wait until
// a loop has taken it.
func Arrive(e *Engine, d Departed) error {
	c, err := fdConn(d.FD)
	if err != nil {
		return err
	}
	if e.opts.TLS != nil {
		_ = c.Close()
		return errors.New("netpoll: the connection is plaintext, and clients are to use TLS")
	}
	return e.register(c, &adopted{client: d.Client, arrived: true, idle: d.Idle}, nil)
}
