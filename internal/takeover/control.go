package takeover

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

// A running gateway takes orders on a Unix socket: one line of JSON with an order, answered with
// lines of progress, of which the last one has Done. After the order TakeOver the connection is the
// link between the two processes instead.

// order is what sluice upgrade and sluice takeover ask for.
type order struct {
	Check    bool `json:",omitempty"`
	TakeOver bool `json:",omitempty"` // the process at the other end wants to
	// Patience is how long that process waits for an introduction. 0: helloWait.
	Patience time.Duration `json:",omitempty"`
}

// Order is an order as it is carried out.
type Order struct {
	Check bool           // only ask the new program whether it could take over
	Conn  *net.UnixConn  // the process that is to take over, for Attach; nil: it is to be started
	Step  func(Progress) // reports progress
	// Patience bounds how long the order may wait before it is carried out or refused; 0: it does
	// not matter.
	Patience time.Duration
	// Answered is closed when the answer has been sent; nil: there is none.
	Answered <-chan struct{}
}

// Progress is what has been done: a step in words, or how many clients have moved.
type Progress struct {
	Text      string `json:",omitempty"`
	Clients   int    `json:",omitempty"` // that have moved
	Of        int    `json:",omitempty"` // so many clients; 0: Text is all
	Resources int    `json:",omitempty"` // that the new process has for them
}

// progress is a line of the answer.
type progress struct {
	Progress
	Done  bool   `json:",omitempty"`
	Error string `json:",omitempty"` // with Done: why nothing has changed
	Again bool   `json:",omitempty"` // with Done: another process listens now, which must be asked
}

// ErrSucceeded says that another process has taken over, and that this one does not listen for
// orders any more.
var ErrSucceeded = errors.New("another process has taken over: ask it")

// maxAsks bounds how often an order is given to the next process.
const maxAsks = 5

const (
	orderWait = 10 * time.Second // for an order
	stepsWait = time.Second      // for one who does not read the progress
	// acceptAgain is the pause after a connection that could not be accepted.
	acceptAgain = 100 * time.Millisecond
	maxOrder    = 4 << 10 // bytes of a line
	// refusalTime is how long before the end of its patience a process that is to take over gets a
	// refusal.
	refusalTime = 5 * time.Second
	// stepWait bounds the wait for the next line of progress: a new process may wait for NATS for a
	// day.
	stepWait = 25 * time.Hour
)

// Listen returns the listener for orders at path, with access for this user only. It replaces a
// socket at which nobody listens any more.
func Listen(path string) (net.Listener, error) {
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = c.Close()
		return nil, fmt.Errorf("another process listens on %s: choose another path", path)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
		_ = os.Remove(path)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	// Until then the credentials of peers are what keeps others out, as they do afterwards.
	if err := os.Chmod(path, 0o600); err != nil {
		_ = l.Close()
		return nil, err
	}
	Keep(l)
	return l, nil
}

// Keep has the socket's file stay when its listener is closed: another process may have it by then.
func Keep(l net.Listener) {
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
}

// Serve handles orders from processes of the same user, one after the other, until the listener is
// closed. do carries one out, and returns why nothing has changed. Order.Conn belongs to do if it
// returns nil.
func Serve(l net.Listener, do func(Order) error) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // such as the limit of descriptors
			time.Sleep(acceptAgain)
			continue
		}
		if !serveOne(c, do) {
			_ = c.Close()
		}
	}
}

// serveOne handles an order. It reports whether the connection is another's from now on.
func serveOne(c net.Conn, do func(Order) error) (kept bool) {
	out := json.NewEncoder(c)
	if err := sameUser(c); err != nil {
		_ = out.Encode(progress{Done: true, Error: err.Error()})
		return false
	}
	_ = c.SetDeadline(time.Now().Add(orderWait))
	line, err := bufio.NewReaderSize(c, maxOrder).ReadSlice('\n')
	var o order
	if err == nil {
		err = json.Unmarshal(line, &o)
	}
	if err != nil {
		_ = out.Encode(progress{Done: true, Error: "the order is malformed"})
		return false
	}
	_ = c.SetDeadline(time.Time{})
	if o.TakeOver {
		u := c.(*net.UnixConn) // sameUser has seen it
		patience := cmp.Or(max(o.Patience, 0), helloWait)
		if err := do(Order{Conn: u, Step: func(Progress) {}, Patience: max(patience-refusalTime, patience/2)}); err != nil {
			_ = (&link{conn: u}).send(kindFailed, failure{err.Error()})
			return false
		}
		return true
	}
	last, answered := progress{Done: true}, make(chan struct{})
	defer close(answered)
	// A line that is not read in time is the last one: the upgrade does not wait for its audience.
	var lost error
	say := func(p progress, within time.Duration) {
		if lost == nil {
			_ = c.SetWriteDeadline(time.Now().Add(within))
			lost = out.Encode(p)
		}
	}
	if err := do(Order{Check: o.Check, Answered: answered, Step: func(p Progress) { say(progress{Progress: p}, stepsWait) }}); err != nil {
		last.Error, last.Again = err.Error(), errors.Is(err, ErrSucceeded)
	}
	say(last, orderWait)
	return false
}

// Nobody reports whether an error, of Ask among others, says that no process listens.
func Nobody(err error) bool {
	return errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED)
}

// Ask gives an order to the gateway that listens at path, calls step with its progress, and returns
// why nothing has changed.
func Ask(path string, check bool, step func(Progress)) error {
	for asks := 1; ; asks++ {
		if again, err := ask(path, check, step); !again || asks == maxAsks {
			return err
		}
	}
}

// ask is Ask of the process that accepts the connection. It reports whether that was too late, and
// another one must be asked.
func ask(path string, check bool, step func(Progress)) (again bool, err error) {
	c, err := net.DialTimeout("unix", path, orderWait)
	if err != nil {
		return false, fmt.Errorf("no gateway takes orders at %s: %w", path, err)
	}
	defer func() { _ = c.Close() }()
	if err := json.NewEncoder(c).Encode(order{Check: check}); err != nil {
		return false, err
	}
	lines := bufio.NewScanner(c)
	for {
		_ = c.SetReadDeadline(time.Now().Add(stepWait))
		if !lines.Scan() {
			return false, errors.New("the gateway has ended before it was done: see its log")
		}
		var p progress
		if err := json.Unmarshal(lines.Bytes(), &p); err != nil {
			return false, fmt.Errorf("the gateway's answer is malformed: %w", err)
		}
		switch {
		case !p.Done:
			step(p.Progress)
		case p.Error != "":
			return p.Again, errors.New(p.Error)
		default:
			return false, nil
		}
	}
}
