package netpoll

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sluice/netpoll/uring"
	"sluice/wsproto"
)

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

// uringForTest returns a flusher for as long as the test lasts.
func uringForTest(t testing.TB) flusher {
	t.Helper()
	u, err := newURingFlusher(kernelURing, uringBatch, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.close)
	return u
}

// TestFlushChoice: what each setting makes of a system that has io_uring, and of one that does not.
// Rings are closed by Stop.
func TestFlushChoice(t *testing.T) {
	there := FlushWrite
	if haveURing(t) {
		there = FlushURing
	}
	refusing := kernelURing
	refusing.Setup = func(uint32, *uring.Params) (int, unix.Errno) { return -1, unix.EPERM }
	mute := kernelURing
	mute.Enter = func(int, uint32, uint32, uint32) (int, unix.Errno) { return -1, unix.EACCES }
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
		if tc.want == FlushURing && there != FlushURing || there == FlushWrite && tc.name == "auto, no enter" {
			continue // it takes a ring
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

// BenchmarkFlushers has both flushers send to the same TCP connections, in iterations and on one
// thread, and compares the thread's CPU time: medians, since what else the machine does gets in
// between.
func BenchmarkFlushers(b *testing.B) {
	for _, n := range []int{1, 2, 3, 4, 8, 32, 1000, 5000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			l := looseLoop(b, 1<<20)
			conns, peers := tcpPairs(b, l, n)
			benchmarkFlushers(b, l, conns, peers)
		})
	}
}

// BenchmarkTLSFlushers is BenchmarkFlushers inside TLS 1.3.
func BenchmarkTLSFlushers(b *testing.B) {
	for _, n := range []int{1, 4, 32, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			l := looseTLSLoop(b)
			conns, peers := tcpPairs(b, l, n)
			for _, c := range conns {
				looseSecure(b, c, clientTLS(0))
			}
			benchmarkFlushers(b, l, conns, peers)
		})
	}
}

func benchmarkFlushers(b *testing.B, l *Loop, conns []*Conn, peers []int) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	from := uringFrom
	uringFrom = 1
	defer func() { uringFrom = from }()
	frame := wsproto.AppendFrame(nil, wsproto.OpText, make([]byte, 100))
	buf := make([]byte, 64<<10)
	flushers := []flusher{newFlusher(b, FlushWrite), newFlusher(b, FlushURing)}
	const sample = 4 // iterations; CPU time is not read for each
	spent := make([][]float64, len(flushers))
	for i := 0; b.Loop(); i++ {
		which := i % len(flushers)
		l.output.flusher = flushers[which]
		before := threadTime()
		for range sample {
			l.begin()
			for _, c := range conns {
				c.Send(frame)
			}
			runQueue(l)
		}
		spent[which] = append(spent[which], float64(threadTime()-before)/float64(sample*len(conns)))
		b.StopTimer()
		drainPeers(b, peers, buf)
		b.StartTimer()
	}
	if len(spent[1]) == 0 {
		return // the trial run
	}
	write, batched := median(spent[0]), median(spent[1])
	b.ReportMetric(write, "write-ns/conn")
	b.ReportMetric(batched, "uring-ns/conn")
	b.ReportMetric(batched/write, "ratio")
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
