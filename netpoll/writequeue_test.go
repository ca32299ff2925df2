package netpoll

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"sluice/wsproto"
)

// runQueue ends the iteration and has those that follow, until the write queue is empty.
func runQueue(l *Loop) {
	for l.end(); l.output.queue.len() > 0; l.end() {
		l.begin()
	}
}

// TestWriteQueueOrder holds the queue against a plain slice.
func TestWriteQueueOrder(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	all := make([]*Conn, 300)
	for i := range all {
		all[i] = &Conn{slot: uint32(i)}
	}
	var q writeQueue
	var want []*Conn
	for step := range 20000 {
		if rnd.IntN(2) == 0 {
			some := all[:rnd.IntN(len(all))]
			if len(want) > 2000 {
				some = nil
			}
			q.push(some)
			want = append(want, some...)
		} else {
			n := rnd.IntN(400)
			got := q.pop(n)
			n = min(n, len(want))
			if !slices.Equal(got, want[:n]) {
				t.Fatalf("step %d: wrong connections, or not as many", step)
			}
			clear(got)
			want = want[n:]
		}
		if q.len() != len(want) {
			t.Fatalf("step %d: %d queued, want %d", step, q.len(), len(want))
		}
	}
	if kept := q.conns[:cap(q.conns)]; len(kept) > 8000 {
		t.Errorf("the queue has grown to %d places", len(kept))
	}
	q.pop(q.len())
}

// recordingFlusher is a flusher whose sockets take everything. It notes which connections were
// written, and how much.
type recordingFlusher struct {
	written []string // by batch
}

func (s *recordingFlusher) flush(_ *Loop, batch []*Conn) {
	for i := 0; i < len(batch); {
		from := i
		for i < len(batch) && batch[i].queued == batch[from].queued && batch[i].slot == batch[from].slot+uint32(i-from) {
			i++
		}
		s.written = append(s.written, fmt.Sprintf("%d-%d: %d", batch[from].slot, batch[i-1].slot, batch[from].queued))
	}
	for _, c := range batch {
		c.dequeue(int(c.queued), false)
	}
}

// TestManyAreQueued: a fan-out to many connections is written in parts. In between, a few other
// connections are written first, and later output for a queued connection joins what is queued for
// it.
func TestManyAreQueued(t *testing.T) {
	l := looseLoop(t, 1<<20)
	s := new(recordingFlusher)
	l.output.flusher = s
	conns := make([]*Conn, 2*queueBatch+200)
	for i := range conns {
		conns[i] = looseConn(l, -1)
	}
	last := len(conns) - 1
	send := func(to []*Conn, size int) {
		for _, c := range to {
			c.Send(make([]byte, size))
		}
	}
	others := []*Conn{looseConn(l, -1), looseConn(l, -1)} // slots after those of conns
	iterate := func(want ...string) {
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
	iterate(span(0, queueBatch-1, 10))
	send(others, 3)
	iterate(span(last+1, last+2, 3), span(queueBatch, 2*queueBatch-1, 10))
	send(conns, 20)
	iterate(span(2*queueBatch, last, 30), span(0, queueBatch-200-1, 20))
	iterate(span(queueBatch-200, 2*queueBatch-200-1, 20))
	iterate(span(2*queueBatch-200, 2*queueBatch-1, 20))
	iterate()

	// Up to directMax connections are written immediately, then a part of those that are queued
	// already.
	send(conns, 10)
	iterate(span(0, queueBatch-1, 10))
	send(conns[:directMax], 1)
	iterate(span(0, directMax-1, 1), span(queueBatch, 2*queueBatch-1, 10))
	send(conns[:directMax+1], 1)
	iterate(span(2*queueBatch, last, 10), span(0, directMax, 1))
	iterate()
}

// TestQueuedAreClosed: connections that are closed, or scheduled for it, while they are queued are
// skipped.
func TestQueuedAreClosed(t *testing.T) {
	withFlushes(t, func(t *testing.T, l *Loop) {
		conns, peers := pairs(t, l, queueBatch+50)
		for _, c := range conns {
			c.Send([]byte("x"))
		}
		l.output.flush()
		closed, scheduled := queueBatch+3, queueBatch+5
		conns[scheduled].scheduleClose()
		conns[closed].to(stateClosed)
		conns[closed].dropOutbox()
		conns[closed].fd = -1
		l.output.flush()
		for i, fd := range peers {
			want := "x"
			if i == closed || i == scheduled {
				want = ""
			}
			if got := string(readAll(t, fd)); got != want {
				t.Errorf("connection %d got %q, want %q", i, got, want)
			}
		}
		if l.output.queue.len() > 0 || len(l.reaper.conns) != 1 {
			t.Errorf("%d are queued, %d scheduled", l.output.queue.len(), len(l.reaper.conns))
		}
	})
}

// TestQueueIsWrittenAcrossIterations: the queue is worked off without further wake-ups, and the
// loop handles messages in between.
func TestQueueIsWrittenAcrossIterations(t *testing.T) {
	var lengths []int // length of the queue at each message
	s := serve(t, func(_ *Options, h *testHandler) {
		h.onIterate = func(l *Loop) {
			if l.output.queue.len() > 0 && len(lengths) < 3 {
				h.mailbox[0].Put(func(l *Loop) { lengths = append(lengths, l.output.queue.len()) })
			}
		}
	})
	clients := make([]*client, 2*queueBatch+100)
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
		if len(lengths) == 0 || lengths[0] == 0 {
			t.Errorf("when the loop lengths of what is new, queued were %v", lengths)
		}
	})
}
