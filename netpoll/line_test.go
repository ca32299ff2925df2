package netpoll

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"sluice/wsproto"
)

// endTurns ends the turn and has those that follow, until nobody stands in line.
func endTurns(l *Loop) {
	for l.end(); l.line.len() > 0; l.end() {
		l.begin()
	}
}

// TestLineOrder holds the line against a plain slice.
func TestLineOrder(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	all := make([]*Conn, 300)
	for i := range all {
		all[i] = &Conn{slot: uint32(i)}
	}
	var q line
	var want []*Conn
	for step := range 20000 {
		if rnd.IntN(2) == 0 {
			some := all[:rnd.IntN(len(all))]
			if len(want) > 2000 {
				some = nil
			}
			q.join(some)
			want = append(want, some...)
		} else {
			n := rnd.IntN(400)
			got := q.take(n)
			n = min(n, len(want))
			if !slices.Equal(got, want[:n]) {
				t.Fatalf("step %d: wrong connections, or not as many", step)
			}
			clear(got)
			want = want[n:]
		}
		if q.len() != len(want) {
			t.Fatalf("step %d: %d in line, want %d", step, q.len(), len(want))
		}
	}
	if kept := q.conns[:cap(q.conns)]; len(kept) > 8000 {
		t.Errorf("the line has grown to %d places", len(kept))
	}
	q.take(q.len())
}

// scribe is a flusher whose sockets take everything. It notes who was written and how much.
type scribe struct {
	written []string // by batch
}

func (s *scribe) flush(_ *Loop, batch []*Conn) {
	for i := 0; i < len(batch); {
		from := i
		for i < len(batch) && batch[i].queued == batch[from].queued && batch[i].slot == batch[from].slot+uint32(i-from) {
			i++
		}
		s.written = append(s.written, fmt.Sprintf("%d-%d: %d", batch[from].slot, batch[i-1].slot, batch[from].queued))
	}
	for _, c := range batch {
		c.wrote(int(c.queued), false)
	}
}

// TestCrowd: an event for many is written in parts. Meanwhile others go first if they are few, and
// what comes later for those in line goes with what they wait for.
func TestCrowd(t *testing.T) {
	l := looseLoop(t, 1<<20)
	s := new(scribe)
	l.flusher = s
	conns := make([]*Conn, 2*part+200)
	for i := range conns {
		conns[i] = looseConn(l, -1)
	}
	last := len(conns) - 1
	send := func(to []*Conn, size int) {
		for _, c := range to {
			c.Send(make([]byte, size))
		}
	}
	others := []*Conn{looseConn(l, -1), looseConn(l, -1)} // slots behind conns
	turn := func(want ...string) {
		t.Helper()
		l.end()
		if !slices.Equal(s.written, want) {
			t.Errorf("written: %q, want %q", s.written, want)
		}
		s.written = nil
		l.begin()
	}
	span := func(first, last, size int) string { return fmt.Sprintf("%d-%d: %d", first, last, size) }

	l.begin()
	send(conns, 10)
	turn(span(0, part-1, 10))
	send(others, 3)
	turn(span(last+1, last+2, 3), span(part, 2*part-1, 10))
	send(conns, 20)
	turn(span(2*part, last, 30), span(0, part-200-1, 20))
	turn(span(part-200, 2*part-200-1, 20))
	turn(span(2*part-200, 2*part-1, 20))
	turn()

	// As many as a crowd may be are written at once, and a part of those that are in line already
	// behind them.
	send(conns, 10)
	turn(span(0, part-1, 10))
	send(conns[:crowd], 1)
	turn(span(0, crowd-1, 1), span(part, 2*part-1, 10))
	send(conns[:crowd+1], 1)
	turn(span(2*part, last, 10), span(0, crowd, 1))
	turn()
}

// TestCrowdWithGaps: connections that are closed or doomed while they stand in line are passed
// over.
func TestCrowdWithGaps(t *testing.T) {
	withFlushes(t, func(t *testing.T, l *Loop) {
		conns, peers := pairs(t, l, part+50)
		for _, c := range conns {
			c.Send([]byte("x"))
		}
		l.flush()
		closed, doomed := part+3, part+5
		conns[doomed].doom()
		conns[closed].to(stateClosed)
		conns[closed].dropOutbox()
		conns[closed].fd = -1
		l.flush()
		for i, fd := range peers {
			want := "x"
			if i == closed || i == doomed {
				want = ""
			}
			if got := string(readAll(t, fd)); got != want {
				t.Errorf("connection %d got %q, want %q", i, got, want)
			}
		}
		if l.line.len() > 0 || len(l.doomed) != 1 {
			t.Errorf("%d are in line, %d doomed", l.line.len(), len(l.doomed))
		}
	})
}

// TestCrowdMovesOn: the line moves on by itself, and in between the loop hears of what is new.
func TestCrowdMovesOn(t *testing.T) {
	var heard []int // in line when the loop heard
	s := serve(t, func(_ *Options, h *testHandler) {
		h.onTurn = func(l *Loop) {
			if l.line.len() > 0 && len(heard) < 3 {
				h.mailbox[0].Put(func(l *Loop) { heard = append(heard, l.line.len()) })
			}
		}
	})
	clients := make([]*client, 2*part+100)
	for i := range clients {
		clients[i], _ = s.connect()
	}
	for round := range 3 {
		s.on(0, func(l *Loop) {
			f := l.arena.Copy(wsproto.AppendFrame(nil, wsproto.OpText, []byte{'0' + byte(round)}))
			for i := range l.table.slots {
				l.table.slots[i].conn.Send(f)
			}
		})
		for _, c := range clients {
			c.wantText(fmt.Sprint(round))
		}
	}
	s.on(0, func(*Loop) {
		if len(heard) == 0 || heard[0] == 0 {
			t.Errorf("when the loop heard of what is new, in line were %v", heard)
		}
	})
}
