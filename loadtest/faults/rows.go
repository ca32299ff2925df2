//go:build linux

package faults

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	loadclient "sluice/loadtest/client"
	"sluice/loadtest/wire"
	"sluice/wsproto"
)

// Row is one fault.
type Row struct {
	Name  string
	Fault string // what happens
	Kept  string // what the outcome "kept" means

	work   slowWork // zero: 8 workers that take no time
	prefix string   // of the gateway's command line
	run    func(s *stand) (Outcome, error)
}

// largeBytes is the size of the large resource.
const largeBytes = 50 << 20

const allRight = "all clients stay, hold the newest state and are served"

// size chooses between the size of the table and that of a short run.
func (s *stand) size(full, short int) int {
	if s.opt.Short {
		return short
	}
	return full
}

func (s *stand) time(full, short time.Duration) time.Duration {
	if s.opt.Short {
		return short
	}
	return full
}

// Rows returns all faults.
func Rows() []Row {
	return []Row{
		{Name: "storm", Fault: "2,000 clients connect and subscribe at once; the service checks access of 400 per second", Kept: "all are subscribed, without a second attempt", work: slowWork{workers: 2, each: 5 * time.Millisecond}, run: storm},
		{Name: "overload", Fault: "a model of 500 clients changes 2,000 times per second for 8 s, 1 KB each", Kept: "all clients stay and have the newest state at most 60 s after the last change", run: overload},
		{Name: "flood", Fault: "one client makes calls as fast as it can for 5 s", Kept: allRight + ", the calls of others during it too", run: flood},
		{Name: "unread", Fault: "one client asks for 16 KB again and again for 10 s and reads no response", Kept: allRight, run: unread},
		{Name: "stalled", Fault: "20 of 60 clients stop reading, while models change 100 times per second, 16 KB each, for 40 s", Kept: "the clients that read stay, hold the newest state and are served", run: stalled},
		{Name: "garbage", Fault: "clients break each rule of WebSocket", Kept: allRight, run: garbage},
		{Name: "message", Fault: "one client sends a message of 1 GB", Kept: allRight, run: message},
		{Name: "silent", Fault: "600 connections send nothing, the gateway may have 300 descriptors", Kept: allRight + ", new clients too", prefix: "prlimit --nofile=300:300 ", run: silent},
		{Name: "large", Fault: "10 clients subscribe to what has 50 MB", Kept: allRight, run: large},
		{Name: "nats-restart", Fault: "NATS is killed and starts again after 3 s; meanwhile everything changes", Kept: allRight, run: natsRestart},
		{Name: "nats-cut", Fault: "the connection to NATS carries nothing for 5 s, then breaks; meanwhile everything changes, and the service notices nothing", Kept: allRight, run: natsCut},
		{Name: "nats-frozen", Fault: "NATS is frozen (SIGSTOP) for 25 s", Kept: allRight, run: natsFrozen},
		{Name: "frozen", Fault: "the gateway is frozen (SIGSTOP) for 20 s; meanwhile 1.6 MB of changes per second", Kept: allRight, run: frozen},
	}
}

// storm lets all clients come together. The service is slower than they are.
func storm(s *stand) (Outcome, error) {
	n := s.size(2000, 100)
	var all sync.WaitGroup
	results := make([]error, n)
	clients := make([]*client, n)
	for i := range n {
		all.Add(1)
		go func() {
			defer all.Done()
			if clients[i], results[i] = connect(s.ctx, s.addr(), s.dialect(), false); results[i] == nil {
				results[i] = clients[i].subscribe(fmt.Sprintf("load.t%d", i%topics), time.Minute)
			}
		}()
	}
	all.Wait()
	failed, last := 0, error(nil)
	for i, err := range results {
		if clients[i] != nil {
			s.clients = append(s.clients, clients[i])
		}
		if err != nil {
			failed, last = failed+1, err
		}
	}
	detail := fmt.Sprintf("at most %d wait at the service", (s.world.most()+9)/10*10)
	if failed > 0 {
		detail = fmt.Sprintf("%d of %d subscribed, others: %v; %s", n-failed, n, short(last), detail)
		return s.worse(Outcome{Word: NotServed, Detail: detail}), nil
	}
	if s.wrong(s.clients) > 0 {
		return s.verdict(), nil
	}
	return Outcome{Word: Kept, Detail: detail}, nil
}

// short returns an error without what differs from run to run.
func short(err error) string {
	if n, ok := errors.AsType[net.Error](err); ok && n.Timeout() {
		return "no response"
	}
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return "the connection is refused"
	}
	text, _, _ := strings.Cut(err.Error(), ": ")
	return text
}

// overload changes a model more often than a gateway can deliver. Its clients only note the newest
// change that they have received, so that they are not the limit.
func overload(s *stand) (Outcome, error) {
	n := s.size(500, 20)
	e, err := loadclient.New(loadclient.Config{Protocol: s.target.Protocol, Addr: s.addr(), Count: n, Topics: 1, PerClient: 1})
	if err != nil {
		return Outcome{}, err
	}
	defer e.Close()
	count := func() (c loadclient.Counters) {
		if sample, failed := e.Sample(true); failed == nil {
			c = sample.Count
		} else {
			err = failed
		}
		return c
	}
	if err := e.Connect(); err != nil {
		return Outcome{}, err
	}
	if !s.until(limit, func() bool { return count().Ready == n }) {
		return Outcome{}, fmt.Errorf("%d of %d clients are subscribed", count().Ready, n)
	}
	if err := e.Begin(loadclient.Now()); err != nil {
		return Outcome{}, err
	}
	last := int64(0)
	s.pace(2000, s.time(8*time.Second, time.Second), func(int) { last = s.world.stamp(1 << 10) })
	exact := s.until(limit, func() bool { return count().Oldest >= last || !s.gateway.Running() })
	c := count()
	o := Outcome{Word: Kept}
	switch {
	case err != nil:
		return Outcome{}, err
	case c.Closed > 0 && s.gateway.Running():
		o = Outcome{Word: Closed, Detail: fmt.Sprintf("%d of %d clients", c.Closed, n)}
	case !exact:
		o = Outcome{Word: WrongState, Detail: "clients are still behind a minute after the last change"}
	}
	return s.worse(o).and(s.memory()), nil
}

// flood lets one client make calls without a pause; the others call during it.
func flood(s *stand) (Outcome, error) {
	if err := s.connect(s.size(50, 5)); err != nil {
		return Outcome{}, err
	}
	ctx, stop := context.WithTimeout(s.ctx, s.time(5*time.Second, time.Second))
	defer stop()
	flooder, err := connect(s.ctx, s.addr(), s.dialect(), false)
	if err != nil {
		return Outcome{}, err
	}
	defer flooder.leave()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for ctx.Err() == nil && flooder.fire(flooder.speaks.call) == nil {
		}
	}()
	longest, failure := time.Duration(0), error(nil)
	for i := 0; ctx.Err() == nil && failure == nil; i++ {
		began := time.Now()
		failure = s.clients[i%len(s.clients)].call(limit)
		longest = max(longest, time.Since(began))
		pause(every)
	}
	<-ctx.Done()
	flooder.release(sent)
	if failure != nil {
		return s.worse(Outcome{Word: NotServed, Detail: "a call of another client: " + failure.Error()}), nil
	}
	detail := ""
	if longest > time.Second {
		detail = fmt.Sprintf("a call of others took up to %v", longest.Round(time.Second))
	}
	return s.verdict().and(detail, s.memory()), nil
}

// release ends a goroutine that fires, which may be blocked because the gateway does not read.
func (c *client) release(done <-chan struct{}) {
	for {
		_ = c.wire.SetWriteDeadline(time.Now())
		select {
		case <-done:
			return
		case <-time.After(every):
		}
	}
}

// fire sends a request and does not wait for the response.
func (c *client) fire(build func(id int) string) error {
	c.mu.Lock()
	c.id++
	m := build(c.id)
	c.mu.Unlock()
	return c.wire.Send(wsproto.OpText, m)
}

// unread lets one client ask for much and read nothing.
func unread(s *stand) (Outcome, error) {
	if err := s.connect(s.size(50, 5)); err != nil {
		return Outcome{}, err
	}
	s.world.change(0, 16<<10)
	flooder, err := connect(s.ctx, s.addr(), s.dialect(), true)
	if err != nil {
		return Outcome{}, err
	}
	defer flooder.leave()
	flooder.pause()
	length := s.time(10*time.Second, time.Second)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for end := time.Now().Add(length); time.Now().Before(end); {
			if flooder.fire(flooder.speaks.state) != nil {
				return
			}
		}
	}()
	s.until(length, func() bool { return !s.gateway.Running() })
	flooder.release(done)
	return s.verdict().and(s.memory()), nil
}

// stalled lets some clients read no more while much changes. They may be closed.
func stalled(s *stand) (Outcome, error) {
	if err := s.connect(s.size(40, 5)); err != nil {
		return Outcome{}, err
	}
	for i := range s.size(20, 3) {
		c, err := connect(s.ctx, s.addr(), s.dialect(), true)
		if err != nil {
			return Outcome{}, err
		}
		defer c.leave()
		if err := c.subscribe(fmt.Sprintf("load.t%d", i%topics), limit); err != nil {
			return Outcome{}, fmt.Errorf("before the fault: %w", err)
		}
		c.pause()
	}
	s.load(100, topics, 16<<10, s.time(40*time.Second, 3*time.Second))
	return s.verdict().and(s.memory()), nil
}

// garbage lets a connection for each rule break it.
func garbage(s *stand) (Outcome, error) {
	if err := s.connect(s.size(50, 5)); err != nil {
		return Outcome{}, err
	}
	var other []string
	for _, v := range wire.Violations([4]byte{1, 2, 3, 4}) {
		c, err := connect(s.ctx, s.addr(), s.dialect(), false)
		if err != nil {
			return Outcome{}, err
		}
		if err := c.subscribe("load.t0", limit); err != nil {
			return Outcome{}, err
		}
		_, _ = c.wire.Write(v.Bytes)
		got := "stays open"
		if s.until(limit, func() bool { ended, _, _ := c.closed(); return ended }) {
			_, code, _ := c.closed()
			got = fmt.Sprint(code)
		}
		if got != fmt.Sprint(v.Code) {
			other = append(other, fmt.Sprintf("%s: %s instead of %d", v.Name, got, v.Code))
		}
		c.leave()
	}
	detail := "each closed with the code of RFC 6455"
	if len(other) > 0 {
		detail = strings.Join(other, "; ")
	}
	return s.verdict().and(detail), nil
}

// message lets one client send a message that is larger than the gateway's memory.
func message(s *stand) (Outcome, error) {
	if err := s.connect(s.size(50, 5)); err != nil {
		return Outcome{}, err
	}
	c, err := connect(s.ctx, s.addr(), s.dialect(), false)
	if err != nil {
		return Outcome{}, err
	}
	defer c.leave()
	const length = 1 << 30
	_, err = c.wire.Write([]byte{0x81, 0xff, 0, 0, 0, 0, length >> 24, 0, 0, 0, 0, 0, 0, 0})
	part := make([]byte, 1<<20)
	for i := range part {
		part[i] = ' '
	}
	for sent := 0; err == nil && sent < length; sent += len(part) {
		_, err = c.wire.Write(part)
	}
	detail := "that client stays"
	if s.until(limit, func() bool { ended, _, _ := c.closed(); return ended }) {
		_, code, _ := c.closed()
		detail = fmt.Sprintf("that client is closed with %d", code)
		if code == wire.NoClose {
			detail = "that client is cut"
		}
	}
	return s.verdict().and(detail, s.memory()), nil
}

// silent uses up the descriptors with connections that send nothing.
func silent(s *stand) (Outcome, error) {
	if err := s.connect(s.size(50, 5)); err != nil {
		return Outcome{}, err
	}
	for range s.size(600, 400) {
		c, err := net.DialTimeout("tcp", s.addr(), limit)
		if err != nil {
			return s.worse(Outcome{Word: NotServed, Detail: "a new connection: " + short(err)}), nil
		}
		defer wire.Reset(c)
	}
	return s.verdict(), nil
}

// large lets clients ask for what is too large.
func large(s *stand) (Outcome, error) {
	if err := s.connect(s.size(20, 3)); err != nil {
		return Outcome{}, err
	}
	n := s.size(10, 2)
	results := make(chan error, n)
	var askers []*client
	for range n {
		c, err := connect(s.ctx, s.addr(), s.dialect(), false)
		if err != nil {
			return Outcome{}, err
		}
		askers = append(askers, c)
		defer c.leave()
		go func() { results <- c.subscribe(largeName, limit) }()
	}
	said := ""
	for range n {
		if err := <-results; err != nil && !errors.Is(err, errClosed) {
			said = strings.ReplaceAll(err.Error(), "|", "/")
		}
	}
	if s.raw {
		if err := s.world.publishLarge(); err != nil {
			return Outcome{}, err
		}
	}
	o := s.verdict()
	got := 0
	s.until(s.time(5*time.Second, time.Second), func() bool {
		got = 0
		for _, c := range askers {
			if len(c.holds()) > largeBytes {
				got++
			}
		}
		return got == n
	})
	detail := fmt.Sprintf("%d of %d get it", got, n)
	if said != "" {
		detail = "they get an error: " + said
	}
	if closed, code := closedOf(askers); closed > 0 {
		detail = fmt.Sprintf("%d of them are closed with %d", closed, code)
	}
	if o.Word == OutOfMemory {
		detail = ""
	}
	return o.and(detail, s.memory()), nil
}

func natsRestart(s *stand) (Outcome, error) {
	if err := s.connect(s.size(100, 10)); err != nil {
		return Outcome{}, err
	}
	s.nats.Kill()
	s.world.changeAll()
	s.until(s.time(3*time.Second, time.Second), func() bool { return false })
	if err := s.startNATS(); err != nil {
		return Outcome{}, err
	}
	if !s.until(limit, s.world.conn.IsConnected) {
		return Outcome{}, errors.New("the service does not reach NATS again")
	}
	return s.verdict().and(s.healed()), nil
}

func natsCut(s *stand) (Outcome, error) {
	if err := s.connect(s.size(100, 10)); err != nil {
		return Outcome{}, err
	}
	s.relay.SetCut(true)
	s.world.changeAll()
	s.until(s.time(5*time.Second, time.Second), func() bool { return false })
	s.relay.SetCut(false)
	return s.verdict().and(s.healed()), nil
}

// healed says whether clients with a wrong state are right after the next change.
func (s *stand) healed() string {
	if !s.gateway.Running() || s.wrong(s.clients) == 0 {
		return ""
	}
	for i := range topics {
		s.world.change(i, 0)
	}
	if s.until(limit, func() bool { return s.wrong(s.clients) == 0 }) {
		return "right with the next publication"
	}
	return "not even after the next change"
}

func natsFrozen(s *stand) (Outcome, error) {
	if err := s.connect(s.size(100, 10)); err != nil {
		return Outcome{}, err
	}
	if err := s.freeze(s.nats, s.time(25*time.Second, time.Second), s.world.changeAll); err != nil {
		return Outcome{}, err
	}
	return s.verdict(), nil
}

func frozen(s *stand) (Outcome, error) {
	if err := s.connect(s.size(100, 10)); err != nil {
		return Outcome{}, err
	}
	length := s.time(20*time.Second, time.Second)
	if err := s.freeze(s.gateway, length, func() { s.load(100, topics, 16<<10, length) }); err != nil {
		return Outcome{}, err
	}
	return s.verdict(), nil
}

// row returns a row by its name.
func row(name string) (Row, bool) {
	all := Rows()
	i := slices.IndexFunc(all, func(r Row) bool { return r.Name == name })
	if i < 0 {
		return Row{}, false
	}
	return all[i], true
}
