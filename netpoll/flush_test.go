package netpoll

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sluice/wsproto"
)

// flushEnv names the flush that all tests use, which is write without it.
const flushEnv = "SLUICE_NETPOLL_FLUSH"

var testFlush = FlushWrite

var bothFlushes = []Flush{FlushWrite, FlushURing}

// TestAllWithURing runs all the other tests with the other flush.
func TestAllWithURing(t *testing.T) {
	if testFlush == FlushURing || !haveURing(t) {
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=.", "-test.skip=^TestAllWithURing$", fmt.Sprintf("-test.short=%v", testing.Short()))
	cmd.Env = append(os.Environ(), flushEnv+"="+string(FlushURing))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// newFlusher returns a flusher of one of bothFlushes for as long as the test lasts.
func newFlusher(t testing.TB, flush Flush) flusher {
	t.Helper()
	if flush == FlushWrite || !haveURing(t) {
		return new(writer)
	}
	u, err := newURingFlusher(kernelURing, uringBatch, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.close)
	return u
}

// haveURing reports whether io_uring can be tested here: a kernel or a sandbox may refuse it.
func haveURing(t testing.TB) bool {
	t.Helper()
	u, err := newURingFlusher(kernelURing, 8, nil)
	if err != nil {
		t.Logf("NOT TESTED: io_uring is not to be had here: %v", err)
		return false
	}
	u.close()
	return true
}

// withFlushes runs a test with each flusher, on a loop of its own.
func withFlushes(t *testing.T, test func(t *testing.T, l *Loop)) {
	for _, flush := range bothFlushes {
		t.Run(string(flush), func(t *testing.T) {
			l := looseLoop(t, 8<<20)
			l.flusher = newFlusher(t, flush)
			test(t, l)
		})
	}
}

// readAll returns what a socket has for its peer now.
func readAll(t testing.TB, fd int) []byte {
	t.Helper()
	var all []byte
	b := make([]byte, 64<<10)
	for {
		n, err := unix.Read(fd, b)
		if err == unix.EAGAIN || n == 0 && err == nil {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b[:n]...)
	}
}

// retry lets lagging connections be tried again.
func retry(l *Loop) {
	l.now += lagMax
	l.wheel.Advance(l.now)
	l.flush()
}

// TestFlushMoreThanABatch: more connections than one submission carries, each with bytes of its own, one after the other.
func TestFlushMoreThanABatch(t *testing.T) {
	withFlushes(t, func(t *testing.T, l *Loop) {
		conns, peers := pairs(t, l, 2*128+7)
		for round := range 3 {
			for i, c := range conns {
				c.Send([]byte(fmt.Sprintf("round %d, connection %d", round, i)))
			}
			l.flush()
			for i, fd := range peers {
				if got, want := string(readAll(t, fd)), fmt.Sprintf("round %d, connection %d", round, i); got != want {
					t.Fatalf("got %q, want %q", got, want)
				}
				if conns[i].Queued() > 0 || conns[i].Lagging() {
					t.Fatalf("connection %d has %d bytes left", i, conns[i].Queued())
				}
			}
		}
		if len(l.dirty)+len(l.doomed) > 0 {
			t.Error("connections are left")
		}
		if n := l.stats.writes; n != uint64(3*len(conns)) {
			t.Errorf("%d writes counted, want %d", n, 3*len(conns))
		}
	})
}

// TestFlushMixture: quick connections, slow ones whose sockets take a part and then nothing, and broken ones
// share a batch. Each gets what is its.
func TestFlushMixture(t *testing.T) {
	withFlushes(t, func(t *testing.T, l *Loop) {
		conns, peers := pairs(t, l, 30)
		quick := func(i int) bool { return i%3 == 0 }
		broken := func(i int) bool { return i%3 == 2 }
		small, large := []byte("short"), bytes.Repeat([]byte("0123456789abcdef"), 128<<10)
		got := make([][]byte, len(conns))
		for i, c := range conns {
			switch {
			case quick(i):
				c.Send(small)
			case broken(i):
				c.Send(small)
				if i%2 == 0 {
					_ = unix.Shutdown(peers[i], unix.SHUT_RDWR)
				} else {
					c.fd = -1
				}
			default:
				c.Send(large)
			}
		}
		l.flush()
		for i, c := range conns {
			switch {
			case quick(i):
				if s := readAll(t, peers[i]); string(s) != "short" {
					t.Errorf("%d: got %.100q", i, s)
				}
			case broken(i):
				if c.state != stateDoomed {
					t.Errorf("%d: the error was not noticed", i)
				}
			case !c.Lagging() || c.Queued() == 0 || c.Queued() == len(large):
				t.Errorf("%d: lagging %v, %d bytes are left", i, c.Lagging(), c.Queued())
			}
		}
		if len(l.doomed) != 10 || len(l.turned) != 10 {
			t.Errorf("%d are doomed, %d turned", len(l.doomed), len(l.turned))
		}
		before := conns[1].Queued()
		retry(l) // nothing was read
		if n := conns[1].Queued(); n != before || conns[1].more.wait != 2*lagMin {
			t.Errorf("%d bytes are queued, not %d; the next attempt follows after %v", n, before, conns[1].more.wait)
		}
		for left := true; left; {
			left = false
			for i, c := range conns {
				if !quick(i) && !broken(i) {
					got[i] = append(got[i], readAll(t, peers[i])...)
					left = left || c.Queued() > 0
				}
			}
			retry(l)
		}
		for i, c := range conns {
			if !quick(i) && !broken(i) && (c.Lagging() || !bytes.Equal(append(got[i], readAll(t, peers[i])...), large)) {
				t.Errorf("%d: lagging %v, %d bytes came", i, c.Lagging(), len(got[i]))
			}
		}
	})
}

// TestFlushManySlices: slices that are joined, that are too large for that, that are more than a vector holds, and so
// many connections of them that the scratch does not hold all.
func TestFlushManySlices(t *testing.T) {
	for name, slices := range map[string][]int{
		"joined":         {10, 20, 30},
		"large":          {10, smallCopy, 30},
		"a vector":       {vectorLen: 5},
		"three vectors":  {3*vectorLen - 1: 5},
		"almost a joint": {smallCopy - 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			withFlushes(t, func(t *testing.T, l *Loop) {
				conns, peers := pairs(t, l, 20)
				want := make([]bytes.Buffer, len(conns))
				for i, c := range conns {
					for j, n := range slices {
						b := bytes.Repeat([]byte{byte(i + j)}, max(n, 1))
						want[i].Write(b)
						if c.queued == 0 {
							c.first = b
						} else {
							if c.more == nil {
								c.more = l.takeBacklog(c)
							}
							c.more.bufs = append(c.more.bufs, b) // push would copy
						}
						c.queued += int32(len(b))
					}
					c.markDirty()
				}
				l.flush()
				for i, fd := range peers {
					if !bytes.Equal(readAll(t, fd), want[i].Bytes()) || conns[i].Queued() > 0 {
						t.Errorf("connection %d: wrong bytes, or not all", i)
					}
				}
			})
		})
	}
}

// TestFlushKeepsOrder sends frames of all sizes to peers that read when they like, and compares the streams.
func TestFlushKeepsOrder(t *testing.T) {
	withFlushes(t, func(t *testing.T, l *Loop) {
		rnd := rand.New(rand.NewPCG(7, 8))
		conns, peers := pairs(t, l, 40)
		sent, got := make([]bytes.Buffer, len(conns)), make([]bytes.Buffer, len(conns))
		seq := uint32(0)
		turns := 2000
		if testing.Short() {
			turns = 300
		}
		for range turns {
			for range rnd.IntN(6) {
				b := make([]byte, 1+rnd.IntN(1<<rnd.IntN(16)))
				for i := range b {
					seq = seq*1664525 + 1013904223
					b[i] = byte(seq >> 24)
				}
				if rnd.IntN(3) > 0 {
					b = l.arena.Copy(b)
				}
				for i, c := range conns {
					if rnd.IntN(3) > 0 && c.Queued() < 1<<20 {
						c.Send(b)
						sent[i].Write(b)
					}
				}
			}
			l.flush()
			for i, fd := range peers {
				if rnd.IntN(1+i) < 2 { // the later, the slower
					got[i].Write(readAll(t, fd))
				}
			}
			l.now += lagMin
			l.wheel.Advance(l.now)
		}
		lags := l.engine.metrics.Lags.Load()
		for i, c := range conns {
			for c.Queued() > 0 {
				got[i].Write(readAll(t, peers[i]))
				retry(l)
			}
			got[i].Write(readAll(t, peers[i]))
			if !bytes.Equal(sent[i].Bytes(), got[i].Bytes()) {
				t.Errorf("connection %d: %d bytes came, other than the %d sent", i, got[i].Len(), sent[i].Len())
			}
		}
		if lags == 0 || l.engine.metrics.Lagging.Load() != 0 {
			t.Errorf("%d times a connection lagged, %d still do", lags, l.engine.metrics.Lagging.Load())
		}
	})
}

// TestFlushChoice: what each setting makes of a system that has io_uring, and of one that does not. Rings are closed by Stop.
func TestFlushChoice(t *testing.T) {
	there := FlushWrite
	if haveURing(t) {
		there = FlushURing
	}
	refusing := kernelURing
	refusing.setup = func(uint32, *uringParams) (int, unix.Errno) { return -1, unix.EPERM }
	mute := kernelURing
	mute.enter = func(int, uint32, uint32, uint32) (int, unix.Errno) { return -1, unix.EACCES }
	for _, tc := range []struct {
		name   string
		flush  Flush
		calls  uringCalls
		want   Flush
		err    string
		logged string
	}{
		{name: "write", flush: FlushWrite, calls: kernelURing, want: FlushWrite},
		{name: "default", flush: "", calls: kernelURing, want: there},
		{name: "auto", flush: FlushAuto, calls: kernelURing, want: there},
		{name: "io_uring", flush: FlushURing, calls: kernelURing, want: FlushURing},
		{name: "auto, no setup", flush: FlushAuto, calls: refusing, want: FlushWrite, logged: "io_uring_setup: operation not permitted"},
		{name: "auto, no enter", flush: FlushAuto, calls: mute, want: FlushWrite, logged: "io_uring_enter: permission denied"},
		{name: "io_uring, no setup", flush: FlushURing, calls: refusing, err: "choose the flush auto or write"},
		{name: "io_uring, no enter", flush: FlushURing, calls: mute, err: "choose the flush auto or write"},
	} {
		if tc.want == FlushURing && there != FlushURing {
			continue
		}
		t.Run(tc.name, func(t *testing.T) {
			var log bytes.Buffer
			before := openRings(t)
			e, err := New(Options{Addr: "127.0.0.1:0", Loops: 3, Handler: refuseAll{}, Flush: tc.flush, Log: textLog(&log)})
			if err != nil {
				t.Fatal(err)
			}
			e.uring = tc.calls
			err = e.Start()
			rings := openRings(t) - before
			if err == nil {
				_ = e.Stop(context.Background())
			}
			if err == nil && tc.err != "" || err != nil && (tc.err == "" || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("error %v, want %q", err, tc.err)
			}
			if err == nil && e.Flush() != tc.want {
				t.Errorf("the flush is %q, want %q", e.Flush(), tc.want)
			}
			if got := strings.Count(log.String(), "io_uring"); (got > 0) != (tc.logged != "") && there == FlushURing || !strings.Contains(log.String(), tc.logged) || strings.Count(log.String(), "\n") > 1 {
				t.Errorf("logged: %s", log.String())
			}
			wantRings := 0
			if tc.want == FlushURing {
				wantRings = 3
			}
			if rings != wantRings || openRings(t) != before {
				t.Errorf("%d rings while it ran, %d after, want %d and 0", rings, openRings(t)-before, wantRings)
			}
		})
	}
	if _, err := New(Options{Addr: "127.0.0.1:0", Handler: refuseAll{}, Flush: "send"}); err == nil {
		t.Error("an unknown flush is accepted")
	}
}

// tcpPairs is pairs with TCP, as clients have.
func tcpPairs(t testing.TB, l *Loop, n int) (conns []*Conn, peers []int) {
	check := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	listener, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	check(err)
	defer unix.Close(listener)
	check(unix.Bind(listener, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	check(unix.Listen(listener, 128))
	addr, err := unix.Getsockname(listener)
	check(err)
	for range n {
		b, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		check(err)
		t.Cleanup(func() { _ = unix.Close(b) })
		check(unix.Connect(b, addr))
		a, _, err := unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		check(err)
		t.Cleanup(func() { _ = unix.Close(a) })
		check(unix.SetNonblock(b, true))
		check(unix.SetsockoptInt(a, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
		conns, peers = append(conns, looseConn(l, a)), append(peers, b)
	}
	return conns, peers
}

// BenchmarkFlushers has both flushers send to the same TCP connections, in turns and on one thread, and compares the
// thread's CPU time: medians, since what else the machine does gets in between.
func BenchmarkFlushers(b *testing.B) {
	for _, n := range []int{1, 2, 3, 4, 8, 32, 1000, 5000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			from := uringFrom
			uringFrom = 1
			defer func() { uringFrom = from }()
			l := looseLoop(b, 1<<20)
			conns, peers := tcpPairs(b, l, n)
			frame := wsproto.AppendFrame(nil, wsproto.OpText, make([]byte, 100))
			buf := make([]byte, 64<<10)
			flushers := []flusher{newFlusher(b, FlushWrite), newFlusher(b, FlushURing)}
			const sample = 4 // turns; CPU time is not read for each
			spent := make([][]float64, len(flushers))
			for i := 0; b.Loop(); i++ {
				which := i % len(flushers)
				l.flusher = flushers[which]
				before := threadTime()
				for range sample {
					l.begin()
					for _, c := range conns {
						c.Send(frame)
					}
					l.end()
				}
				spent[which] = append(spent[which], float64(threadTime()-before)/float64(sample*n))
				b.StopTimer()
				swallow(b, peers, buf)
				b.StartTimer()
			}
			if len(spent[1]) == 0 {
				return // the trial run
			}
			write, uring := median(spent[0]), median(spent[1])
			b.ReportMetric(write, "write-ns/conn")
			b.ReportMetric(uring, "uring-ns/conn")
			b.ReportMetric(uring/write, "ratio")
		})
	}
}

func threadTime() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts)
	return ts.Nano()
}

func median(of []float64) float64 {
	slices.Sort(of)
	return of[len(of)/2]
}
