package netpoll

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
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
	runAgain(t, "^TestAll", flushEnv+"="+string(FlushURing))
}

// runAgain runs all tests but those of skip in a process of their own, with env.
func runAgain(t *testing.T, skip, env string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=.", "-test.skip="+skip, "-test.short") // random tests need not be as long twice
	cmd.Env = append(os.Environ(), env)
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
	return uringForTest(t)
}

// withFlushes runs a test with each flusher, on a loop of its own.
func withFlushes(t *testing.T, test func(t *testing.T, l *Loop)) {
	withFlushesOf(t, func() *Loop { return looseLoop(t, 8<<20) }, test)
}

func withFlushesOf(t *testing.T, loop func() *Loop, test func(t *testing.T, l *Loop)) {
	for _, flush := range bothFlushes {
		t.Run(string(flush), func(t *testing.T) {
			l := loop()
			l.output.flusher = newFlusher(t, flush)
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
	l.output.flush()
}

// TestFlushMoreThanABatch: more connections than one submission carries, each with bytes of its
// own, one after the other.
func TestFlushMoreThanABatch(t *testing.T) {
	withFlushes(t, func(t *testing.T, l *Loop) {
		conns, peers := pairs(t, l, 2*128+7)
		for round := range 3 {
			for i, c := range conns {
				c.Send([]byte(fmt.Sprintf("round %d, connection %d", round, i)))
			}
			l.output.flush()
			for i, fd := range peers {
				if got, want := string(readAll(t, fd)), fmt.Sprintf("round %d, connection %d", round, i); got != want {
					t.Fatalf("got %q, want %q", got, want)
				}
				if conns[i].Queued() > 0 || conns[i].Lagging() {
					t.Fatalf("connection %d has %d bytes left", i, conns[i].Queued())
				}
			}
		}
		if len(l.output.dirty)+len(l.reaper.conns) > 0 {
			t.Error("connections are left")
		}
		if n := l.stats.writes; n != uint64(3*len(conns)) {
			t.Errorf("%d writes counted, want %d", n, 3*len(conns))
		}
	})
}

// TestFlushMixture: quick connections, slow ones whose sockets take a part and then nothing, and
// broken ones share a batch. Each gets what is its.
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
		l.output.flush()
		for i, c := range conns {
			switch {
			case quick(i):
				if s := readAll(t, peers[i]); string(s) != "short" {
					t.Errorf("%d: got %.100q", i, s)
				}
			case broken(i):
				if c.state != stateReap {
					t.Errorf("%d: the error was not noticed", i)
				}
			case !c.Lagging() || c.Queued() == 0 || c.Queued() == len(large):
				t.Errorf("%d: lagging %v, %d bytes are left", i, c.Lagging(), c.Queued())
			}
		}
		if len(l.reaper.conns) != 10 || len(l.output.lagChanged) != 10 {
			t.Errorf("%d are closing, %d changed", len(l.reaper.conns), len(l.output.lagChanged))
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

// TestFlushManySlices: slices that are joined, that are too large for that, that are more than a
// vector holds, and so many connections of them that the scratch does not hold all.
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
								c.more = l.output.newBacklog(c)
							}
							c.more.bufs = append(c.more.bufs, b) // push would copy
						}
						c.queued += int32(len(b))
					}
					c.markDirty()
				}
				l.output.flush()
				for i, fd := range peers {
					if !bytes.Equal(readAll(t, fd), want[i].Bytes()) || conns[i].Queued() > 0 {
						t.Errorf("connection %d: wrong bytes, or not all", i)
					}
				}
			})
		})
	}
}

// TestFlushKeepsOrder sends frames of all sizes to peers that read when they like, and compares the
// streams.
func TestFlushKeepsOrder(t *testing.T) {
	for name, version := range map[string]uint16{"plain": 0, "TLS": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) { testFlushKeepsOrder(t, version) })
	}
}

func testFlushKeepsOrder(t *testing.T, version uint16) {
	withFlushesOf(t, func() *Loop { return looseTLSLoop(t) }, func(t *testing.T, l *Loop) {
		rnd := rand.New(rand.NewPCG(7, 8))
		conns, peers := pairs(t, l, 40)
		read := func(i int) []byte { return readAll(t, peers[i]) }
		if version != 0 {
			read = secureAll(t, conns, peers, version)
		}
		sent, got := make([]bytes.Buffer, len(conns)), make([]bytes.Buffer, len(conns))
		seq := uint32(0)
		iterations := 2000
		switch {
		case version != 0:
			iterations = 100
		case testing.Short() || raceEnabled:
			iterations = 300
		}
		for range iterations {
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
			l.output.flush()
			for i := range peers {
				if rnd.IntN(1+i) < 2 { // the later, the slower
					got[i].Write(read(i))
				}
			}
			l.now += lagMin
			l.wheel.Advance(l.now)
		}
		lags := l.engine.metrics.Lags.Load()
		for i, c := range conns {
			for c.Queued() > 0 {
				got[i].Write(read(i))
				retry(l)
			}
			got[i].Write(read(i))
			if !bytes.Equal(sent[i].Bytes(), got[i].Bytes()) {
				t.Errorf("connection %d: %d bytes came, other than the %d sent", i, got[i].Len(), sent[i].Len())
			}
		}
		if lags == 0 || l.engine.metrics.Lagging.Load() != 0 {
			t.Errorf("%d times a connection lagged, %d still do", lags, l.engine.metrics.Lagging.Load())
		}
	})
}
