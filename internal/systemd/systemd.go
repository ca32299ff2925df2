// Package systemd speaks to the service manager: notifications (sd_notify(3)), the watchdog
// (sd_watchdog_enabled(3)) and sockets that it passes (sd_listen_fds(3)).
//
// It is our own rather than github.com/coreos/go-systemd: what a service needs is a datagram with a
// few lines and three environment variables. That library reads them from the process's environment
// and removes them there, so that neither could be tested without a process of its own.
//
// It never decides when a service is ready or alive, and does nothing without a service manager.
package systemd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Notifier sends notifications to the service manager. A nil Notifier sends none. Its methods may
// be called from any goroutine.
type Notifier struct {
	conn     *net.UnixConn
	watchdog time.Duration
	over     atomic.Bool // another process is the main one
}

// NewNotifier returns the Notifier that the environment asks for, nil if it does not. pid is the
// process's own. environ is like os.Environ.
func NewNotifier(environ []string, pid int) (*Notifier, error) {
	socket := lookup(environ, "NOTIFY_SOCKET")
	switch {
	case socket == "":
		return nil, nil
	case socket[0] != '/' && socket[0] != '@':
		return nil, errors.New("NOTIFY_SOCKET is neither a path nor an abstract name (@): there are no notifications")
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"}) // @ is an abstract name
	if err != nil {
		return nil, fmt.Errorf("NOTIFY_SOCKET: %w", err)
	}
	n := &Notifier{conn: conn}
	if owner := lookup(environ, "WATCHDOG_PID"); owner == "" || owner == strconv.Itoa(pid) {
		if usec, err := strconv.ParseInt(lookup(environ, "WATCHDOG_USEC"), 10, 64); err == nil && usec > 0 && usec < 1<<50 {
			n.watchdog = time.Duration(usec) * time.Microsecond
		}
	}
	return n, nil
}

// Watchdog returns how often at least the service manager wants Alive; 0: never.
func (n *Notifier) Watchdog() time.Duration {
	if n == nil {
		return 0
	}
	return n.watchdog
}

// Starting says what the start waits for.
func (n *Notifier) Starting(status string) { n.send("STATUS=" + status) }

// Ready says that the service has started, or has reloaded.
func (n *Notifier) Ready(status string) { n.send("READY=1", "STATUS="+status) }

// Reloading says that a reload begins; Ready ends it. The time tells the manager to which request
// for a reload it belongs.
func (n *Notifier) Reloading() {
	n.send("RELOADING=1", "MONOTONIC_USEC="+strconv.FormatInt(monotonic().Microseconds(), 10))
}

// Stopping says that the service stops, which takes up to within.
func (n *Notifier) Stopping(within time.Duration) {
	n.send("STOPPING=1", "EXTEND_TIMEOUT_USEC="+strconv.FormatInt(within.Microseconds(), 10))
}

// HandOver says that another process is the main one from now on. This Notifier sends nothing more.
func (n *Notifier) HandOver(pid int) {
	n.send("MAINPID=" + strconv.Itoa(pid))
	if n != nil {
		n.over.Store(true)
	}
}

// Alive restarts the watchdog's timer.
func (n *Notifier) Alive() { n.send("WATCHDOG=1") }

// send sends one notification. A manager that does not take it is no reason to do anything else.
func (n *Notifier) send(lines ...string) {
	if n != nil && !n.over.Load() {
		_, _ = n.conn.Write([]byte(strings.Join(lines, "\n")))
	}
}

// Sockets are the listening sockets that the service manager has passed.
type Sockets struct {
	Clients []net.Listener
	Metrics net.Listener // the one whose FileDescriptorName is metrics; nil: none
}

// firstFD is the first descriptor that is passed (SD_LISTEN_FDS_START).
const firstFD = 3

// Listen returns the sockets that the environment names, which must be listening TCP sockets. It
// takes their descriptors over, so it can be called once. pid is the process's own.
func Listen(environ []string, pid int) (Sockets, error) {
	var s Sockets
	if lookup(environ, "LISTEN_PID") != strconv.Itoa(pid) {
		return s, nil
	}
	count, err := strconv.Atoi(lookup(environ, "LISTEN_FDS"))
	if err != nil || count < 0 || count > 64 {
		return s, errors.New("LISTEN_FDS is not a number up to 64")
	}
	names := strings.Split(lookup(environ, "LISTEN_FDNAMES"), ":")
	for i := range count {
		name := ""
		if i < len(names) {
			name = names[i]
		}
		l, err := listener(firstFD + i)
		switch {
		case err != nil:
			return s, fmt.Errorf("socket activation: descriptor %d (%q) is not a listening TCP socket: use ListenStream= with an address and port, and Accept=no: %w", firstFD+i, name, err)
		case name == "metrics" && s.Metrics != nil:
			return s, errors.New("socket activation: two sockets are named metrics: remove one")
		case name == "metrics":
			s.Metrics = l
		default:
			s.Clients = append(s.Clients, l)
		}
	}
	return s, nil
}

// listener returns a descriptor as a listener. The descriptor is closed; the listener has another.
func listener(fd int) (net.Listener, error) {
	f := os.NewFile(uintptr(fd), "socket")
	if f == nil {
		return nil, errors.New("no such descriptor")
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	if _, ok := l.(*net.TCPListener); !ok {
		_ = l.Close()
		return nil, fmt.Errorf("it is of the kind %s", l.Addr().Network())
	}
	return l, nil
}

// lookup returns the last value of a variable; empty if there is none.
func lookup(environ []string, name string) (value string) {
	for _, e := range environ {
		if n, v, ok := strings.Cut(e, "="); ok && n == name {
			value = v
		}
	}
	return value
}
