package netpoll

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/internal/owner"
	"sluice/netpoll/park"
	"sluice/wsproto"
)

// childEnv set makes the test binary a server with few descriptors, commanded over its standard
// input.
const childEnv = "SLUICE_NETPOLL_CHILD"

const (
	childFDs     = 100
	childReserve = 40
)

func TestMain(m *testing.M) {
	if f := os.Getenv(flushEnv); f != "" {
		testFlush = Flush(f)
		uringFrom = 1
	}
	if os.Getenv(inGnetEnv) != "" {
		newParker = func(int, func()) (*park.Parker, error) { return nil, nil }
	}
	if os.Getenv(childEnv) != "" {
		child()
		return
	}
	os.Exit(m.Run())
}

// child serves an echo and answers each line of input with one of output.
func child() {
	fail := func(err error) {
		if err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
	}
	fail(unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: childFDs, Max: childFDs}))
	h := newTestHandler(2)
	h.opened, h.closed = make(chan *Conn, 1e6), make(chan *Conn, 1e6)
	m := new(Metrics)
	e, err := New(Options{Addr: "127.0.0.1:0", Loops: 2, WSPath: "/ws", Handler: h, Metrics: m,
		Limits: Limits{ReserveFDs: childReserve, DrainWindow: -1}})
	fail(err)
	fail(e.Start())
	fmt.Println(e.Addr())
	var filler []int
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		switch in.Text() {
		case "fill": // use up all descriptors
			for {
				fd, err := unix.Open("/dev/null", unix.O_RDONLY, 0)
				if err != nil {
					break
				}
				filler = append(filler, fd)
			}
			fmt.Println(len(filler))
		case "free":
			for _, fd := range filler {
				_ = unix.Close(fd)
			}
			filler = nil
			fmt.Println("freed")
		case "metrics":
			fmt.Println(m.Open.Load(), m.RefusedFDs.Load(), m.Restarts.Load(), m.Evicted.Load())
		case "stop":
			fail(e.Stop(context.Background()))
			fmt.Println("stopped")
		}
	}
}

// childServer is the child seen from its parent.
type childServer struct {
	t    *testing.T
	in   io.Writer
	out  *bufio.Scanner
	addr net.Addr
}

func startChild(t *testing.T) *childServer {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=1")
	cmd.Stderr = t.Output()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &childServer{t: t, in: in, out: bufio.NewScanner(out)}
	t.Cleanup(func() {
		_ = in.Close()
		_, _ = io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the child: %v", err)
		}
	})
	addr, err := net.ResolveTCPAddr("tcp", s.line())
	if err != nil {
		t.Fatal(err)
	}
	s.addr = addr
	return s
}

func (s *childServer) line() string {
	s.t.Helper()
	if !s.out.Scan() {
		s.t.Fatal("the child has ended")
	}
	return s.out.Text()
}

func (s *childServer) command(c string) string {
	s.t.Helper()
	if _, err := io.WriteString(s.in, c+"\n"); err != nil {
		s.t.Fatal(err)
	}
	return s.line()
}

func (s *childServer) metrics() (open, refused, restarts int) {
	open, refused, restarts, _ = s.allMetrics()
	return open, refused, restarts
}

func (s *childServer) allMetrics() (open, refused, restarts, evicted int) {
	s.t.Helper()
	if _, err := fmt.Sscan(s.command("metrics"), &open, &refused, &restarts, &evicted); err != nil {
		s.t.Fatal(err)
	}
	return open, refused, restarts, evicted
}

// Connections that send nothing come without an end: each takes the place of an older one, and the
// reserve of descriptors does not run out, although each second one has a number of the reserve.
func TestEvictionKeepsTheReserve(t *testing.T) {
	s := startChild(t)
	c := dial(t, s.addr)
	c.send([]byte(upgradeHead("/ws", "")))
	if code, _ := c.status(); code != 101 {
		t.Fatalf("status %d", code)
	}
	end := time.Now().Add(patience)
	for evicted := 0; evicted < 5*childReserve; {
		if time.Now().After(end) {
			t.Fatalf("%d evicted within %v", evicted, patience)
		}
		silent, err := net.Dial("tcp", s.addr.String())
		if err != nil {
			t.Fatalf("after %d evictions: %v", evicted, err)
		}
		t.Cleanup(func() { _ = silent.Close() })
		var restarts int
		if _, _, restarts, evicted = s.allMetrics(); restarts > 0 {
			t.Fatalf("gnet has ended after %d evictions", evicted)
		}
	}
	c.text("still here")
	c.wantText("still here")
}

// TestDescriptorLimit opens more connections than the child has descriptors for: those over the
// limit get 503, the others work, and when some leave, new ones are served.
func TestDescriptorLimit(t *testing.T) {
	s := startChild(t)
	var open []*client
	refused := 0
	try := func() {
		t.Helper()
		c := dial(t, s.addr)
		c.send([]byte(upgradeHead("/ws", "")))
		switch code, head := c.status(); code {
		case 101:
			open = append(open, c)
		case 503:
			refused++
			if !strings.Contains(head, "Connection: close") {
				t.Errorf("the refusal does not say that it closes: %q", head)
			}
			_, _ = io.Copy(io.Discard, c.r)
			_ = c.Close()
		default:
			t.Fatalf("status %d", code)
		}
	}
	for range 3 * childFDs {
		try()
	}
	if len(open) == 0 || len(open) > childFDs-childReserve || refused != 3*childFDs-len(open) {
		t.Fatalf("%d open, %d refused", len(open), refused)
	}
	// Many at a time: they do not all find room in the reserve, and some may be reset, but the
	// child survives.
	var many []net.Conn
	for range 3 * childFDs {
		c, err := net.Dial("tcp", s.addr.String())
		if err != nil {
			t.Fatal(err)
		}
		many = append(many, c)
	}
	for _, c := range open {
		c.text("still here")
		c.wantText("still here")
	}
	for _, c := range many {
		_ = c.SetDeadline(time.Now().Add(patience))
		_, _ = c.Write([]byte(upgradeHead("/ws", "")))
		b, _ := io.ReadAll(c)
		if len(b) > 0 && !strings.HasPrefix(string(b), "HTTP/1.1 503 ") {
			t.Fatalf("one of many got %q", b)
		}
		_ = c.Close()
	}
	n, counted, restarts := s.metrics()
	if n != len(open) || counted < refused || restarts != 0 {
		t.Errorf("metrics: %d open, %d refused, %d restarts; want %d, at least %d, 0", n, counted, restarts, len(open), refused)
	}
	half := len(open) / 2
	for _, c := range open[:half] {
		c.send(closeFrame(1000))
		c.wantClose(1000)
		c.wantEOF()
		_ = c.Close()
	}
	open = open[half:]
	before := len(open)
	for range half {
		try()
	}
	if len(open) != before+half {
		t.Errorf("%d places were free, %d were given", half, len(open)-before)
	}
	for _, c := range open {
		c.text("bye")
		c.wantText("bye")
		_ = c.Close()
	}
	if got := s.command("stop"); got != "stopped" {
		t.Error(got)
	}
}

// TestRestartAfterAcceptError takes the descriptors away without the engine's knowledge, so that an
// accept fails and gnet ends. Once there are descriptors again, clients are served on the same
// port.
func TestRestartAfterAcceptError(t *testing.T) {
	s := startChild(t)
	c := dial(t, s.addr)
	c.send([]byte(upgradeHead("/ws", "")))
	c.upgraded()
	s.command("fill")
	// The kernel takes the connection, gnet cannot; it may be reset before Dial has returned.
	if victim, err := net.Dial("tcp", s.addr.String()); err == nil {
		defer victim.Close()
	}
	c.wantEOF() // gnet closes all its connections when it ends
	if got := s.command("free"); got != "freed" {
		t.Fatal(got)
	}
	// The other loop serves new clients until gnet has ended.
	for end := time.Now().Add(patience); ; {
		if _, _, restarts := s.metrics(); restarts > 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the restart is not counted")
		}
	}
	for end := time.Now().Add(patience); ; {
		c, err := net.Dial("tcp", s.addr.String())
		if err == nil {
			_ = c.SetDeadline(time.Now().Add(patience))
			_, _ = c.Write(append([]byte(upgradeHead("/ws", "")), masked(wsproto.OpText, "back")...))
			r := bufio.NewReader(c)
			line, _ := r.ReadString('\n')
			_ = c.Close()
			if strings.HasPrefix(line, "HTTP/1.1 101 ") {
				break
			}
		}
		if time.Now().After(end) {
			t.Fatalf("no service after the restart: %v", err)
		}
	}
	if got := s.command("stop"); got != "stopped" {
		t.Error(got)
	}
}

// TestRefusedThoughWoken: a refused client that has sent nothing gets its response, even if the
// loop reads the clock twice in that iteration.
func TestRefusedThoughWoken(t *testing.T) {
	l := looseLoop(t, 1<<20)
	conns, peers := pairs(t, l, 1)
	c := conns[0]
	c.state, c.flags = stateRefuse, flagReserve
	l.wheel.Schedule(&c.timer, l.now+refuseWait, c)
	l.clock.(*owner.ManualClock).Advance(refuseWait)
	l.begin()
	l.wait.scheduled.Store(true)
	l.ackWake()
	l.wait.scheduled.Store(true)
	l.end()
	if got := readAll(t, peers[0]); !bytes.HasPrefix(got, []byte("HTTP/1.1 503 ")) {
		t.Errorf("got %q", got)
	}
}

// Connections beyond the rate get 503 and are told to come back, not all at the same time.
func TestAcceptRate(t *testing.T) {
	s := serve(t, func(o *Options, _ *testHandler) { o.Limits.AcceptRate = 3 })
	for range 3 {
		s.connect()
	}
	seen := map[string]bool{}
	for range 3 {
		c := dial(t, s.Addr())
		c.send([]byte(upgradeHead("/ws", "")))
		code, head := c.status()
		_, after, found := strings.Cut(head, "Retry-After: ")
		if code != 503 || !found {
			t.Fatalf("status %d, want 503 with Retry-After: %q", code, head)
		}
		after, _, _ = strings.Cut(after, "\r\n")
		seen[after] = true
		_ = c.Close()
	}
	if len(seen) != 3 || s.m.RefusedRate.Load() != 3 {
		t.Errorf("Retry-After: %v, refused %d", seen, s.m.RefusedRate.Load())
	}
	s.advance(time.Second)
	for range 3 {
		s.connect()
	}
}

func TestMaxConns(t *testing.T) {
	s := serve(t, func(o *Options, _ *testHandler) { o.Limits.MaxConns = 3 })
	var open []*client
	for range 3 {
		c, _ := s.connect()
		open = append(open, c)
	}
	over := dial(t, s.Addr())
	over.send([]byte(upgradeHead("/ws", "")))
	if code, _ := over.status(); code != 503 {
		t.Errorf("status %d, want 503", code)
	}
	_ = over.Close()
	silent := dial(t, s.Addr())
	s.until("it is there", func() bool { return s.m.RefusedMax.Load() == 2 })
	s.advance(refuseWait)
	if code, _ := silent.status(); code != 503 {
		t.Errorf("status %d, want 503", code)
	}
	_ = silent.Close()
	_ = open[0].Close()
	s.until("they are gone", func() bool { return s.m.OpenAll.Load() == 2 })
	s.connect()
}
