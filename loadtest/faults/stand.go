//go:build linux

package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"sluice/internal/resmodel"
	loadclient "sluice/loadtest/client"
	"sluice/loadtest/plan"
	"sluice/loadtest/proc"
	"sluice/loadtest/wire"
)

const (
	limit     = time.Minute // for what a gateway owes its clients after a fault
	every     = 20 * time.Millisecond
	startTime = time.Minute
)

// stand is one gateway with NATS, a service and clients, for one row. The goroutine of the row owns
// it.
type stand struct {
	ctx    context.Context
	opt    *Options
	target plan.Target
	raw    bool // the gateway does not speak RES
	params map[string]string

	nats, gateway *proc.Process
	natsLine      string
	relay         *wire.Relay // between gateway and NATS
	world         *world
	clients       []*client // those that do nothing wrong

	peak    atomic.Int64  // of the gateway's RSS, bytes
	overrun atomic.Bool   // killed for its memory
	watched chan struct{} // closed to end the watch
	watch   sync.WaitGroup
}

// newStand starts everything but clients.
func newStand(ctx context.Context, opt *Options, target plan.Target, r Row) (*stand, error) {
	s := &stand{ctx: ctx, opt: opt, target: target, raw: target.Protocol != loadclient.ProtocolRES, params: map[string]string{}, watched: make(chan struct{})}
	if err := s.start(r); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *stand) start(r Row) (err error) {
	for _, name := range []string{"port", "nats", "feed"} {
		port, err := proc.StablePort()
		if err != nil {
			return err
		}
		s.params[name] = strconv.Itoa(port)
	}
	natsAddr := "127.0.0.1:" + s.params["nats"]
	conf := filepath.Join(s.opt.dir, "nats-"+s.params["nats"]+".conf")
	// Large messages are a row's matter; without a row the size does nothing.
	if err := os.WriteFile(conf, []byte("max_payload: 64MB\nmax_pending: 256MB\n"), 0o600); err != nil {
		return err
	}
	s.natsLine = fmt.Sprintf("%s -c %s -a 127.0.0.1 -p %s", s.opt.NATS, conf, s.params["nats"])
	if err := s.startNATS(); err != nil {
		return err
	}
	if s.relay, err = wire.NewRelay(natsAddr); err != nil {
		return err
	}
	work := r.work
	if work.workers == 0 {
		work.workers = 8
	}
	if s.world, err = newWorld("nats://"+natsAddr, s.params["feed"], s.raw, work); err != nil {
		return err
	}
	params := map[string]string{}
	for k, v := range s.params {
		params[k] = v
	}
	params["nats"] = s.relay.Addr()[strings.LastIndexByte(s.relay.Addr(), ':')+1:]
	line, err := proc.Fill(s.target.Start, params)
	if err != nil {
		return err
	}
	// Each of the gateways is written in Go: its runtime collects garbage before the limit.
	env := []string{fmt.Sprintf("GOMEMLIMIT=%d", s.opt.Memory/5*4)}
	for _, e := range s.target.Env {
		if e, err = proc.Fill(e, params); err != nil {
			return err
		}
		env = append(env, e)
	}
	if s.gateway, err = proc.Start(s.target.Name, r.prefix+line, nil, env); err != nil {
		return err
	}
	if err := s.gateway.Ready(s.addr(), startTime); err != nil {
		return err
	}
	s.watch.Add(1)
	go s.watchMemory()
	return nil
}

func (s *stand) addr() string { return "127.0.0.1:" + s.params["port"] }

// startNATS starts the NATS server, again after its end.
func (s *stand) startNATS() (err error) {
	if s.nats, err = proc.Start("NATS server", s.natsLine, nil, nil); err != nil {
		return err
	}
	return s.nats.Ready("127.0.0.1:"+s.params["nats"], startTime)
}

// watchMemory kills the gateway when it uses more memory than it may.
func (s *stand) watchMemory() {
	defer s.watch.Done()
	for {
		if m, err := proc.ReadMemory(s.gateway.PID()); err == nil && m.RSS > s.peak.Load() {
			s.peak.Store(m.RSS)
			if m.RSS > s.opt.Memory && s.gateway.Running() {
				s.overrun.Store(true)
				s.gateway.Kill()
			}
		}
		select {
		case <-s.watched:
			return
		case <-time.After(every):
		}
	}
}

// dialect returns that of a new client.
func (s *stand) dialect() dialect {
	if s.raw {
		return centrifuge{map[string]string{}}
	}
	return res{resmodel.NewView()}
}

// connect opens clients, subscribed to the topics in turn. Each must succeed.
func (s *stand) connect(n int) error {
	for i := range n {
		c, err := connect(s.ctx, s.addr(), s.dialect(), false)
		if err != nil {
			return err
		}
		s.clients = append(s.clients, c)
		if err := c.subscribe(fmt.Sprintf("load.t%d", i%topics), limit); err != nil {
			return fmt.Errorf("before the fault: %w", err)
		}
	}
	return nil
}

// until waits for a condition; it returns false if it does not hold within the limit.
func (s *stand) until(within time.Duration, cond func() bool) bool {
	for end := time.Now().Add(within); !cond(); {
		if time.Now().After(end) || s.ctx.Err() != nil {
			return false
		}
		pause(every)
	}
	return true
}

// pause waits.
func pause(d time.Duration) { <-time.After(d) }

// wrong counts the open clients that do not hold what is true.
func (s *stand) wrong(clients []*client) (n int) {
	for _, c := range clients {
		var i int
		_, _ = fmt.Sscanf(c.topic, "load.t%d", &i)
		if ended, _, _ := c.closed(); !ended && c.holds() != s.world.truth(i) {
			n++
		}
	}
	return n
}

// closedOf counts the clients whose connection has ended, and returns the last one's code.
func closedOf(clients []*client) (n, code int) {
	for _, c := range clients {
		if ended, with, _ := c.closed(); ended {
			n, code = n+1, with
		}
	}
	return n, code
}

// verdict waits until all is as it must be, and says what is not: the gateway runs, the clients are
// connected and hold the truth, call, and another client can come.
func (s *stand) verdict() Outcome {
	exact := s.until(limit, func() bool { return s.wrong(s.clients) == 0 || !s.gateway.Running() })
	switch n, code := closedOf(s.clients); {
	case s.overrun.Load():
		return Outcome{Word: OutOfMemory}
	case !s.gateway.Running():
		return Outcome{Word: Closed, Detail: fmt.Sprintf("the process ended (%s)", s.gateway.Exit())}
	case !exact:
		return Outcome{Word: WrongState, Detail: fmt.Sprintf("%d of %d clients, a minute after the fault", s.wrong(s.clients), len(s.clients))}
	case n > 0:
		for _, c := range s.clients {
			if _, _, broken := c.closed(); broken != nil {
				return Outcome{Word: WrongState, Detail: fmt.Sprintf("a client cannot follow: %v", broken)}
			}
		}
		return Outcome{Word: Closed, Detail: fmt.Sprintf("%d of %d clients, with %d", n, len(s.clients), code)}
	}
	for _, c := range s.clients {
		if err := c.call(limit); err != nil {
			return s.worse(Outcome{Word: NotServed, Detail: "a call: " + err.Error()})
		}
	}
	if err := s.newcomer(); err != nil {
		return s.worse(Outcome{Word: NotServed, Detail: "a new client: " + short(err)})
	}
	return Outcome{Word: Kept}
}

// worse returns an outcome, or why it came to it.
func (s *stand) worse(o Outcome) Outcome {
	switch {
	case s.overrun.Load():
		return Outcome{Word: OutOfMemory}
	case !s.gateway.Running():
		return Outcome{Word: Closed, Detail: fmt.Sprintf("the process ended (%s)", s.gateway.Exit())}
	}
	return o
}

// newcomer connects another client, which must get the truth. As any client it tries again when it
// is refused.
func (s *stand) newcomer() (err error) {
	s.until(limit, func() bool {
		err = s.comes()
		return err == nil || !s.gateway.Running()
	})
	return err
}

// comes connects a client once.
func (s *stand) comes() error {
	c, err := connect(s.ctx, s.addr(), s.dialect(), false)
	if err != nil {
		return err
	}
	defer c.leave()
	if err := c.subscribe("load.t1", limit); err != nil {
		return err
	}
	if !s.until(limit, func() bool { return s.wrong([]*client{c}) == 0 }) {
		return errors.New("it does not get the state")
	}
	return nil
}

// freeze stops a process for a time.
func (s *stand) freeze(p *proc.Process, length time.Duration, during func()) error {
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	end := time.Now().Add(length)
	if during != nil {
		during()
	}
	s.until(time.Until(end), func() bool { return false })
	return p.Signal(syscall.SIGCONT)
}

// load changes topics at a rate for a time: the first ones, in turn, with pads of so many bytes.
func (s *stand) load(rate, of, pad int, length time.Duration) {
	s.pace(rate, length, func(n int) { s.world.change(n%of, pad) })
}

// pace does something at a rate for a time, at least once.
func (s *stand) pace(rate int, length time.Duration, do func(n int)) {
	began := time.Now()
	for n := 0; n == 0 || time.Since(began) < length && s.ctx.Err() == nil && s.gateway.Running(); n++ {
		do(n)
		if due := began.Add(time.Duration(n+1) * time.Second / time.Duration(rate)); time.Until(due) > time.Millisecond {
			pause(time.Until(due))
		}
	}
}

// memory returns the gateway's highest RSS so far in MB, in steps of ten.
func (s *stand) memory() string {
	return fmt.Sprintf("RSS up to %d MB", (s.peak.Load()>>20+5)/10*10)
}

// close ends everything.
func (s *stand) close() {
	close(s.watched)
	s.watch.Wait()
	for _, c := range s.clients {
		c.leave()
	}
	for _, p := range []*proc.Process{s.gateway, s.nats} {
		if p != nil {
			p.Kill()
		}
	}
	if s.world != nil {
		s.world.close()
	}
	if s.relay != nil {
		s.relay.Close()
	}
}
