package takeover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// variable is the environment variable that names the new process's descriptor of the link.
const variable = "TAKEOVER_FD_OF_SLUICE"

// Roles of listening sockets.
const (
	Clients = "clients"
	Metrics = "metrics"
	Admin   = "admin"
	Control = "control" // of sluice upgrade
	// The service manager has chosen these sockets' addresses, whatever the settings say.
	ActivatedClients = "activated-clients"
	ActivatedMetrics = "activated-metrics"
)

// Socket is a listening socket to be handed over.
type Socket struct {
	Role string
	FD   int // stays the caller's
}

// hello is how a process introduces itself.
type hello struct {
	Protocol int
	Version  string // of the program, for people
	Check    bool   // old process: only say whether you could take over
}

// sockets describes the descriptors of a record.
type sockets struct{ Roles []string }

// step is progress.
type step struct{ Text string }

// Kinds of connections that a new process may be able to go on with.
const (
	Plaintext = "plaintext"
	TLS13     = "tls1.3"
)

// ready says that the new process serves.
type ready struct{ Takes []string }

// failure is why the new process cannot take over.
type failure struct{ Reason string }

// helloWait bounds the wait for the other process's introduction.
const helloWait = 10 * time.Second

// Options say how to start the successor.
type Options struct {
	Path    string   // of the program
	Args    []string // after its name
	Environ []string // like os.Environ
	Version string   // of this process
	Sockets []Socket
	Check   bool          // ask whether it could take over, and end it
	Within  time.Duration // for the successor to serve
	Step    func(text string)
}

// Successor is a process that serves.
type Successor struct {
	PID     int
	Takes   []string    // kinds of connections that it can go on with
	process *os.Process // nil: it was not started by this one
	link    *link
	turn    chan struct{} // one place: records are sent one after the other
	holds   time.Duration // see holdWait
	goesOn  time.Duration // moveWait
	owes    bool          // an answer to Offer, for which that has not waited
	ended   chan struct{} // closed when the process has ended
}

// Start starts the program that takes over, and returns when it serves. After an error it has been
// ended, and nothing has changed. With Options.Check the Successor is nil: it has ended.
func Start(ctx context.Context, o Options) (*Successor, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ours, theirs, err := pair()
	if err != nil {
		return nil, err
	}
	defer func() { _ = theirs.Close() }()
	l, err := newLink(ours)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(o.Path, o.Args...)
	cmd.Env = environment(o.Environ)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{theirs} // 3, see environment
	if err := cmd.Start(); err != nil {
		l.close()
		return nil, fmt.Errorf("the new process cannot be started: %w", err)
	}
	_ = theirs.Close() // its end is noticed when it was the last one
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	ended := make(chan struct{})
	var end error // of the process, once it has ended
	takes, err := l.await(o)
	if err == nil && !stop() {
		err = ctx.Err()
	}
	if err != nil || o.Check {
		_ = cmd.Process.Kill()
	}
	go func() { // for as long as this process lives, so that it leaves no zombie
		end = cmd.Wait()
		close(ended)
	}()
	if err != nil || o.Check {
		l.close()
		if <-ended; errors.Is(err, errEnded) {
			err = fmt.Errorf("%w (%v): its log says why", err, end)
		}
		return nil, err
	}
	return &Successor{
		PID: cmd.Process.Pid, Takes: takes, process: cmd.Process, link: l, turn: make(chan struct{}, 1), holds: holdWait, goesOn: moveWait, ended: ended,
	}, nil
}

// Attach is Start for a process that has asked to take over (Order.Conn). Of the options only
// Version, Sockets, Within and Step count. After an error the connection stays the caller's, who
// tells that process.
func Attach(ctx context.Context, c *net.UnixConn, o Options) (*Successor, error) {
	if err := ctx.Err(); err != nil { // AfterFunc's goroutine may run late
		return nil, err
	}
	pid, ended, err := processOf(c)
	if err != nil {
		return nil, err
	}
	l := &link{conn: c}
	stop := context.AfterFunc(ctx, l.close)
	takes, err := l.await(o)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	return &Successor{PID: pid, Takes: takes, link: l, turn: make(chan struct{}, 1), holds: holdWait, goesOn: moveWait, ended: ended}, nil
}

// Commit tells the successor that it is in charge. After an error it has ended, and this process is
// still in charge.
func (s *Successor) Commit() error { return s.link.send(kindCommit, struct{}{}) }

// Conn is a connection at rest.
type Conn struct {
	FD     int            `json:"-"` // stays the caller's
	Client netip.AddrPort // address that a proxy has given; invalid: the peer is the client
	Idle   bool           // a request was answered on it
	In     []byte         `json:",omitempty"` // with TLS: the beginning of a record
	Keys   []byte         `json:"-"`          // of TLS; the receiver overwrites them

	KeysLen int `json:",omitempty"` // bytes of Keys in the record of the keys, set by Give; 0: plaintext
}

// conns describes the descriptors of a record.
type conns struct{ Conns []Conn }

// Give sends connections to the successor, after Commit. The first call, which may have none, says
// that the service manager knows the successor. Any goroutine may call it.
func (s *Successor) Give(all ...Conn) error {
	return s.inTurn(func() error {
		for first := true; first || len(all) > 0; first = false {
			n := min(len(all), maxFiles)
			if err := s.link.give(all[:n]); err != nil {
				return err
			}
			all = all[n:]
		}
		return nil
	})
}

// give sends a record of connections, after one with their keys.
func (l *link) give(all []Conn) error {
	size := 0
	for _, c := range all {
		size += len(c.Keys)
	}
	fds, keys := make([]int, len(all)), make([]byte, 0, size)
	defer func() { clear(keys[:size]) }()
	for i, c := range all {
		fds[i] = c.FD
		all[i].KeysLen = len(c.Keys)
		keys = append(keys, c.Keys...)
	}
	if size > 0 {
		if err := l.sendText(kindKeys, keys); err != nil {
			return err
		}
	}
	return l.send(kindConns, conns{all}, fds...)
}

// Abandon ends a successor that was not told to be in charge.
func (s *Successor) Abandon() {
	if s.process == nil {
		_ = s.link.send(kindFailed, failure{"the old process goes on"})
	}
	s.link.close()
	if s.process != nil {
		_ = s.process.Kill()
	}
}

// await takes the new process from its start to the moment when it serves, and returns the kinds of
// connections that it takes.
func (l *link) await(o Options) (takes []string, err error) {
	if err = l.send(kindHello, hello{Protocol: Protocol, Version: o.Version, Check: o.Check}); err != nil {
		return nil, err
	}
	r, err := l.receive(helloWait, kindHello, kindFailed)
	if err != nil {
		return nil, fmt.Errorf("the new process does not introduce itself: %w", err)
	}
	if r.kind == kindFailed {
		return nil, r.failure()
	}
	var peer hello
	if err := r.decode(&peer); err != nil {
		return nil, err
	}
	if peer.Protocol != Protocol {
		return nil, fmt.Errorf("the new process (%s) speaks version %d of the take-over protocol, this one %d: restart instead", peer.Version, peer.Protocol, Protocol)
	}
	o.Step("version " + peer.Version + " has started")
	s := sockets{Roles: make([]string, len(o.Sockets))}
	fds := make([]int, len(o.Sockets))
	for i, socket := range o.Sockets {
		s.Roles[i], fds[i] = socket.Role, socket.FD
	}
	if err := l.send(kindSockets, s, fds...); err != nil {
		return nil, fmt.Errorf("the listening sockets cannot be sent: %w", err)
	}
	for deadline := time.Now().Add(o.Within); ; {
		r, err := l.receive(time.Until(deadline), kindStep, kindReady, kindFailed)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, fmt.Errorf("the new process does not serve after %v", o.Within)
		case err != nil:
			return nil, err
		case r.kind == kindReady:
			var last ready
			err := r.decode(&last)
			return last.Takes, err
		case r.kind == kindFailed:
			return nil, r.failure()
		}
		var s step
		if err := r.decode(&s); err != nil {
			return nil, err
		}
		o.Step(s.Text)
	}
}

// failure returns the reason in a record.
func (r *record) failure() error {
	var f failure
	if err := r.decode(&f); err != nil {
		return err
	}
	return errors.New(f.Reason)
}

// environment returns the variables of the new process: those of this one, the number of the link,
// and none by which the service manager addresses this process alone.
func environment(environ []string) []string {
	var env []string
	for _, e := range environ {
		name, _, _ := strings.Cut(e, "=")
		switch name {
		case variable, "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES":
		default:
			env = append(env, e)
		}
	}
	return append(env, variable+"="+strconv.Itoa(3))
}

// pair returns two connected sockets that child processes do not inherit by themselves.
func pair() (a, b *os.File, err error) {
	syscall.ForkLock.RLock()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fds[0])
		unix.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	return os.NewFile(uintptr(fds[0]), "takeover"), os.NewFile(uintptr(fds[1]), "takeover"), nil
}
