package netpoll

import (
	"math/rand/v2"
	"testing"

	"sluice/wsproto"
)

// TestStaleHandles closes and opens connections so that slots and descriptors are used again, and
// writes to the old ones.
func TestStaleHandles(t *testing.T) {
	s := serve(t, nil)
	stale := map[Handle]*Conn{}
	sameFD := false
	var lastFD int32
	for i := range 20 {
		c, sc := s.connect()
		if len(stale) > 0 && sc.fd == lastFD {
			sameFD = true
		}
		lastFD = sc.fd
		h := sc.Handle()
		s.on(0, func(l *Loop) {
			if _, again := stale[h]; again {
				t.Errorf("handle %x is given again", h)
			}
			if l.Conn(h) != sc {
				t.Errorf("handle %x does not lead to its connection", h)
			}
			for old, oc := range stale {
				if l.Conn(old) != nil {
					t.Errorf("handle %x leads to a connection that has closed", old)
				}
				oc.Send(wsproto.AppendFrame(nil, wsproto.OpText, []byte("stale")))
				oc.Close(1011, "stale")
				oc.scheduleClose()
				if oc.Queued() > 0 || oc.Handle() != old || oc.RemoteAddr() != "" || !oc.Closing() {
					t.Error("a closed connection is not quite dead")
				}
			}
		})
		c.text("fresh")
		c.wantText("fresh")
		if i%2 == 0 {
			c.send(closeFrame(1000))
			c.wantClose(1000)
			c.wantEOF()
		} else {
			_ = c.Close()
		}
		if await(t, s.h.closed, "Closed") != sc {
			t.Fatal("another one closed")
		}
		stale[h] = sc
	}
	if !sameFD {
		t.Error("no descriptor was used twice: the test does not show what it should")
	}
	if l := s.Loops()[0]; l.Conn(0) != nil || l.Conn(makeHandle(1, 0, 1)) != nil || l.Conn(makeHandle(0, 1<<20, 1)) != nil {
		t.Error("a made-up handle leads somewhere")
	}
}

func TestTable(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	var tab table
	live := map[Handle]*Conn{}
	var dead []Handle
	l := &Loop{index: 513}
	for range 20000 {
		if rnd.IntN(2) == 0 || len(live) == 0 {
			c := &Conn{loop: l}
			tab.add(c)
			live[c.Handle()] = c
			continue
		}
		for h, c := range live {
			tab.remove(c)
			delete(live, h)
			dead = append(dead, h)
			break
		}
	}
	for h, c := range live {
		if tab.get(h) != c || h.Loop() != 513 || h == 0 {
			t.Fatalf("handle %x", h)
		}
	}
	for _, h := range dead {
		if tab.get(h) != nil {
			t.Fatalf("handle %x lives on", h)
		}
	}
	// A generation that wraps around skips zero.
	c := &Conn{loop: l}
	tab.add(c)
	tab.slots[c.slot].gen = 1<<32 - 1
	tab.remove(c)
	if g := tab.slots[c.slot].gen; g != 1 {
		t.Errorf("generation %d after the last one", g)
	}
}

// TestWakesAreCoalesced: however often a loop is woken before its iteration, one iteration follows;
// and none is lost.
func TestWakesAreCoalesced(t *testing.T) {
	s := serve(t, nil)
	l := s.Loops()[0]
	s.sync()
	s.sync()
	release := s.hold(0)
	before := s.m.Wakes.Load()
	for range 1000 {
		l.Wake()
	}
	ran := make(chan struct{})
	s.h.mailbox[0].Put(func(*Loop) { close(ran) })
	release()
	await(t, ran, "the next iteration")
	if n := s.m.Wakes.Load() - before; n > 1 {
		t.Errorf("%d iterations for 1000 wake-ups", n)
	}
	const workers, each = 4, 20000
	got := make([]int, workers)
	done := make(chan struct{})
	total := 0
	for w := range workers {
		go func() {
			for range each {
				s.h.mailbox[0].Put(func(*Loop) {
					got[w]++
					if total++; total == workers*each {
						close(done)
					}
				})
			}
		}()
	}
	await(t, done, "all messages")
	s.on(0, func(*Loop) {
		for w, n := range got {
			if n != each {
				t.Errorf("%d messages of worker %d came through", n, w)
			}
		}
	})
	if n := s.m.Wakes.Load(); n > workers*each/2 {
		t.Logf("%d wake-ups for %d messages", n, workers*each)
	}
}
