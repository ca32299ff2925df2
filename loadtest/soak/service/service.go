//go:build linux

package service

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/internal/resmodel"
)

const (
	// queryMemory is how many query events of a name a service can still be asked about.
	queryMemory = 200
	// repliesBeforeCrash is how many requests a crashing service still replies to.
	repliesBeforeCrash = 5
	flushLimit         = 5 * time.Second
	reconnectWait      = 100 * time.Millisecond
	pingInterval       = 500 * time.Millisecond
)

// worker is a service. Its fields belong to the goroutine of serve.
type worker struct {
	cfg   Config
	name  string
	conn  *nats.Conn
	in    chan *nats.Msg
	again chan struct{} // the connection to NATS was made again
	out   *json.Encoder

	store   *resmodel.Store
	rng     *rand.Rand
	names   []string // of models and collections that exist or are to exist again
	groups  []string // those that may be denied
	denied  map[string]bool
	dead    []string // mortals that are deleted
	events  []string // subjects of query events, oldest first
	ticks   map[string]uint64
	calls   map[int]*window
	stats   State // its counts
	running bool
	dying   int // > 0: requests until the crash
}

// Worker runs a service for the process at the other ends of in and out, until in ends. It is the
// main function of a service's process.
func Worker(in io.Reader, out io.Writer) error {
	lines := json.NewDecoder(bufio.NewReader(in))
	w := &worker{out: json.NewEncoder(out), in: make(chan *nats.Msg, 1<<16), again: make(chan struct{}, 1),
		store: resmodel.NewStore(), denied: map[string]bool{}, ticks: map[string]uint64{}, calls: map[int]*window{}}
	if err := lines.Decode(&w.cfg); err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	w.name = Name(w.cfg.Index)
	w.rng = rand.New(rand.NewPCG(w.cfg.Seed, w.cfg.Gen<<8|uint64(w.cfg.Index)))
	w.create()
	if err := w.connect(); err != nil {
		return err
	}
	defer w.conn.Close()
	w.reset()
	if err := w.out.Encode(Reply{}); err != nil {
		return err
	}
	commands := make(chan Command)
	ended := make(chan error, 1)
	go func() {
		for {
			var c Command
			if err := lines.Decode(&c); err != nil {
				ended <- err
				return
			}
			commands <- c
		}
	}()
	return w.serve(commands, ended)
}

// connect connects to NATS and subscribes. It keeps no messages while the connection is lost: a
// reset follows anyway, and what was buffered could overtake nothing.
func (w *worker) connect() error {
	conn, err := nats.Connect(strings.Join(w.cfg.URLs, ","), nats.Name("soak "+w.name), nats.DontRandomize(),
		nats.Timeout(flushLimit), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(reconnectWait), nats.ReconnectJitter(0, 0),
		nats.ReconnectBufSize(-1), nats.PingInterval(pingInterval), nats.MaxPingsOutstanding(2),
		nats.ReconnectHandler(func(*nats.Conn) {
			select {
			case w.again <- struct{}{}:
			default:
			}
		}))
	if err != nil {
		return err
	}
	w.conn = conn
	for _, subject := range []string{"access.", "get.", "call.", "_EVENT_."} {
		sub, err := conn.ChanSubscribe(subject+w.name+".>", w.in)
		if err != nil {
			return err
		}
		_ = sub.SetPendingLimits(-1, -1) // a service that was frozen has a backlog
	}
	for conn.FlushTimeout(flushLimit) != nil {
		if conn.IsClosed() {
			return errors.New("no connection to NATS")
		}
		time.Sleep(reconnectWait)
	}
	return nil
}

// serve handles requests, commands and time, until the commands end.
func (w *worker) serve(commands <-chan Command, ended <-chan error) error {
	change := time.NewTicker(time.Duration(float64(time.Second) / w.cfg.Changes))
	defer change.Stop()
	tick := time.NewTicker(time.Duration(float64(time.Second) / w.cfg.Ticks))
	defer tick.Stop()
	for {
		select {
		case m := <-w.in:
			w.request(m)
		case <-change.C:
			if w.running {
				w.act()
			}
		case <-tick.C:
			if w.running {
				w.burst(1)
			}
		case <-w.again:
			w.reset()
		case c := <-commands:
			if err := w.execute(c); err != nil {
				return err
			}
		case err := <-ended:
			if err == io.EOF {
				return nil
			}
			return err
		}
	}
}

// execute executes a command and replies.
func (w *worker) execute(c Command) error {
	r := Reply{ID: c.ID}
	switch c.Do {
	case Run:
		w.running = true
	case Quiet:
		w.running = false
		if err := w.conn.FlushTimeout(flushLimit); err != nil {
			r.Error = err.Error()
		}
	case Tell:
		r.State = w.state()
	case Reset:
		w.reset()
	case Burst:
		w.burst(c.N)
		for range c.N {
			w.tick(Bulk(w.name), "")
		}
	case Large:
		for range c.N {
			w.tick(Bulk(w.name), large)
		}
	case Beyond:
		for _, rid := range w.names {
			if _, ok := w.store.Value(rid); ok && w.rng.IntN(2) == 0 {
				w.store.Mutate(w.rng, rid, w.valueFor(rid))
			}
		}
		w.reset()
	case Crash:
		// The reset makes sure that there are requests to be in the middle of.
		w.dying = 1 + w.rng.IntN(repliesBeforeCrash)
		w.reset()
		time.AfterFunc(time.Second, die)
		return nil
	default:
		r.Error = "unknown command " + c.Do
	}
	return w.out.Encode(r)
}

// die ends the process as a crash does: nothing is flushed.
func die() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL) }

func (w *worker) state() *State {
	s := w.stats
	s.Resources, s.Sliced, s.Ticks, s.Gen = map[string]any{}, map[string][]any{}, w.ticks, w.cfg.Gen
	for _, rid := range w.store.RIDs() {
		s.Resources[rid], _ = w.store.Value(rid)
	}
	for i := range Queries {
		name := Query(w.name, i)
		s.Sliced[name] = w.store.Sliced(name)
	}
	for name := range w.denied {
		s.Denied = append(s.Denied, name)
	}
	s.Node = w.conn.ConnectedUrl()
	return &s
}

// publish sends a message; an error means that the connection is lost, after which a reset follows.
func (w *worker) publish(subject, payload string) { _ = w.conn.Publish(subject, []byte(payload)) }

// reset makes the gateways fetch everything again, as a service does when it starts or has lost
// its connection to NATS.
func (w *worker) reset() {
	w.publish("system.reset", `{"resources":["`+w.name+`.>"],"access":["`+w.name+`.>"]}`)
}

// large is the padding of a large tick.
var large = strings.Repeat("soak", 1024)

// burst publishes ticks on each feed.
func (w *worker) burst(n int) {
	for range n {
		for i := range w.cfg.Feeds {
			w.tick(Feed(w.name, i), "")
		}
	}
}

// tick publishes a tick. It counts also if the connection to NATS is lost.
func (w *worker) tick(name, pad string) {
	w.ticks[name]++
	b, err := json.Marshal(Tick{Gen: w.cfg.Gen, N: w.ticks[name], Time: time.Now().UnixNano(), Pad: pad})
	if err != nil {
		panic(err)
	}
	w.publish("event."+name+".tick", string(b))
}

// window remembers which of a client's latest calls were executed.
type window struct {
	last uint64
	seen uint64 // bit i: last-i was executed
}

// execute reports whether call n is new. What is older than the window counts as new.
func (w *window) execute(n uint64) bool {
	switch {
	case n > w.last:
		if n-w.last < 64 {
			w.seen = w.seen<<(n-w.last) | 1
		} else {
			w.seen = 1
		}
		w.last = n
		return true
	case w.last-n >= 64:
		return true
	}
	bit := uint64(1) << (w.last - n)
	repeated := w.seen&bit != 0
	w.seen |= bit
	return !repeated
}
