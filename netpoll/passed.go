package netpoll

import (
	"errors"
	"log/slog"
	"net"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"sluice/internal/owner"
)

// Listeners that are passed to the process (Options.Listeners) are not listened on by gnet, which
// only opens its own. gnet gets a port of loopback that a loop closes before it serves anyone. From
// the passed ones goroutines accept, as many as there are loops, and register what they accept with
// gnet. So a connection costs a few system calls more at its beginning, and nothing later.

// acceptPause is how long an acceptor waits after an error, such as for want of descriptors.
const acceptPause = 50 * time.Millisecond

// passed is the Engine as far as it concerns passed listeners.
type passed struct{ *Engine }

// use prepares the engine for passed listeners.
func (e passed) use() error {
	addr, ok := e.opts.Listeners[0].Addr().(*net.TCPAddr)
	if !ok {
		return errors.New("netpoll: a passed listener is not one of TCP")
	}
	e.addr.Store(addr)
	e.network = "tcp://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(0))
	return nil
}

// accept begins to accept from the passed listeners.
func (e passed) accept() {
	each := (len(e.loops) + len(e.opts.Listeners) - 1) / max(len(e.opts.Listeners), 1)
	for _, l := range e.opts.Listeners {
		for range each {
			go e.from(l)
		}
	}
}

// from accepts connections until the listener is closed.
func (e passed) from(l net.Listener) {
	defer e.opts.Faults.Contain(owner.HTTP)
	for {
		c, err := l.Accept()
		switch {
		case err == nil:
			_ = e.register(c, nil, nil) // an error means that gnet is ending
		case errors.Is(err, net.ErrClosed):
			return
		default:
			e.logAccept.Log(e.log, slog.LevelWarn, e.opts.Clock.Now(), warnEvery, "a connection cannot be accepted", "error", err)
			select {
			case <-e.quit:
				return
			case <-time.After(acceptPause):
			}
		}
	}
}

// close ends the acceptors. The process that passed the listeners may still have them open: then
// the kernel queues new connections for the next process.
func (e passed) close() {
	for _, l := range e.opts.Listeners {
		_ = l.Close()
	}
}

// closeFD drops a connection to the port of loopback that gnet had to listen on.
func closeFD(fd int) { _ = unix.Close(fd) }
