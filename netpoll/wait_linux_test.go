package netpoll

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"sluice/netpoll/park"
)

// TestAllInGnet runs all the other tests with loops that wait in gnet, as they do elsewhere and
// where /proc is missing.
func TestAllInGnet(t *testing.T) {
	if os.Getenv(inGnetEnv) != "" || testFlush != FlushWrite {
		return
	}
	runAgain(t, "^TestAll|^TestRest", inGnetEnv+"=1")
}

// TestRestUnavailable: a loop that cannot rest says what to do, and serves.
func TestRestUnavailable(t *testing.T) {
	usual := newParker
	newParker = func(int, func()) (*park.Parker, error) { return nil, errors.New("no such luck") }
	defer func() { newParker = usual }()
	var log bytes.Buffer
	s := serve(t, func(o *Options, _ *testHandler) { o.Log = textLog(&log) })
	c, _ := s.connect()
	c.text("a")
	c.wantText("a")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = s.Stop(ctx) // nothing is logged any more
	if out := log.String(); strings.Count(out, "GOMAXPROCS") != 1 || !strings.Contains(out, "no such luck") {
		t.Errorf("log: %s", out)
	}
}

// TestRest: loops wait in Go's scheduler.
func TestRest(t *testing.T) {
	s := serve(t, func(o *Options, _ *testHandler) { o.Loops = 2 })
	s.sync()
	for _, l := range s.Loops() {
		s.until("the loop rests", func() bool { return l.wait.position.Load() == parked })
	}
	c, _ := s.connect()
	c.text("a")
	c.wantText("a")
	_ = c.Close()
	s.wantClosed(CloseAbnormal, CauseClient)
	for _, l := range s.Loops() {
		s.until("the loop rests again", func() bool { return l.wait.position.Load() == parked })
	}
}

// TestRestAndWake: a waiting loop begins an iteration without gnet: no byte is read.
func TestRestAndWake(t *testing.T) {
	s := serve(t, nil)
	w := &s.Loops()[0].wait
	s.until("the loop rests", func() bool { return w.position.Load() == parked })
	outer := w.outer.Swap(nil) // a signal now has no effect
	s.sync()
	s.sync()
	w.outer.Store(outer)
}

// TestRestAfterAllThatIsReady: what several clients have sent makes one iteration, but not an
// endless one.
func TestRestAfterAllThatIsReady(t *testing.T) {
	const many = 3 * maxCallbacks
	var iterations int
	var seen []int // the iteration of each message
	s := serve(t, func(_ *Options, h *testHandler) {
		h.message = func(*Conn, []byte) { seen = append(seen, iterations) }
		h.onIterate = func(*Loop) { iterations++ }
	})
	clients := make([]*client, many)
	for i := range clients {
		clients[i], _ = s.connect()
	}
	said := func(n int) (byIteration map[int]int) {
		s.t.Helper()
		s.on(0, func(*Loop) { seen = nil })
		release := s.hold(0)
		for _, c := range clients[:n] {
			c.text("x")
		}
		release()
		s.until("the messages", func() (all bool) {
			s.on(0, func(*Loop) { all = len(seen) == n })
			return all
		})
		byIteration = map[int]int{}
		s.on(0, func(*Loop) {
			for _, i := range seen {
				byIteration[i]++
			}
		})
		return byIteration
	}
	if got := said(5); len(got) != 1 {
		t.Errorf("5 messages that had come came in iterations of %v", got)
	}
	got := said(many)
	if len(got) > many/maxCallbacks+2 {
		t.Errorf("%d messages that had come came in %d iterations: %v", many, len(got), got)
	}
	for _, n := range got {
		if n > maxCallbacks {
			t.Errorf("an iteration with %d messages, at most %d wanted", n, maxCallbacks)
		}
	}
}
