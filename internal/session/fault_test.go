//go:build !invariants

package session

import (
	"log/slog"
	"testing"

	"sluice/fanout"
	"sluice/internal/owner"
	"sluice/internal/res"
)

// bomber is a client that panics when it is described to a service, and notes that it is closed.
type bomber struct {
	*testClient
	armed, faulted bool
}

func (b *bomber) Describe(*res.AuthRequest) {
	if b.armed {
		panic("bomb: describe")
	}
}
func (b *bomber) Fault() { b.faulted = true }

// noting has a world's contained panics counted.
func (w *world) noting() *owner.Faults {
	w.env.Faults = owner.NewFaults(owner.NewManualClock(), slog.New(slog.DiscardHandler))
	return w.env.Faults
}

// Of the sessions that a token reset concerns, one that panics is closed, and all others get
// their request.
func TestPanicInATokenReset(t *testing.T) {
	w := newWorld(t, 1, Limits{})
	faults := w.noting()
	var all []*bomber
	for range 5 {
		b := &bomber{testClient: &testClient{w: w, holds: newHoldings()}}
		b.s = New(w.env, b, b, fanout.Message, "X")
		b.s.SetToken("1", "tid")
		all = append(all, b)
	}
	all[2].armed = true
	w.answers = nil
	w.env.ResetToken([]string{"tid"}, "auth.renew")
	if len(w.answers) != 4 || faults.Count(owner.Loop) != 1 {
		t.Errorf("%d requests, %d panics", len(w.answers), faults.Count(owner.Loop))
	}
	for i, b := range all {
		if bad := i == 2; b.faulted != bad || b.s.closed != bad {
			t.Errorf("%d: at fault %v, closed %v", i, b.faulted, b.s.closed)
		}
	}
	if w.env.Current() != nil {
		t.Error("the loop works for a client still")
	}
}

// A session whose leaving one topic panics leaves all others.
func TestPanicInAClose(t *testing.T) {
	w := newWorld(t, 1, Limits{})
	c := w.clients[0]
	for i := range 4 {
		c.request("subscribe", rid(i))
	}
	if err := w.settle(); err != nil {
		t.Fatal(err)
	}
	faults := w.noting()
	held := c.s.subs.all()
	broken := held[len(held)/2]
	broken.work = &work{slot: slot{t: &throttle{}}} // of no session
	c.s.Close()
	for _, b := range held {
		if b != broken && b.Topic() != nil || b.state != subDisposed {
			t.Errorf("%s has not been left", b.rid)
		}
	}
	if n := w.env.Metrics.Subscriptions.Load(); n != 0 || len(held) < 4 || faults.Count(owner.Loop) != 1 {
		t.Errorf("%d of %d subscriptions, %d panics", n, len(held), faults.Count(owner.Loop))
	}
}

// counted is a Throttle without a limit that counts who has a slot.
type counted int

func (c *counted) Acquire(grant func()) { *c++; grant() }
func (c *counted) Release()             { *c-- }

// A panic between the grant of a slot of the reset throttle and its use gives the slot back, and
// is the client's whose
// access was to be asked.
func TestPanicWithASlot(t *testing.T) {
	for _, panics := range []bool{true, false} {
		w, c := subscribed(t)
		faults := w.noting()
		slots := new(counted)
		w.env.Reset = slots
		w.env.Hub.ResetAccess(fanout.Reset, everything)
		if *slots != 1 || len(w.answers) != 1 {
			t.Fatalf("%d slots, %d steps", *slots, len(w.answers))
		}
		if panics {
			w.env.Bus = nil
		}
		w.env.Attempt(func() { w.answer(0) })
		w.env.Bus = w
		if !panics {
			w.answer(0)
		} else if !c.s.closed || faults.Count(owner.Loop) != 1 {
			t.Errorf("closed %v, %d panics", c.s.closed, faults.Count(owner.Loop))
		}
		if *slots != 0 {
			t.Errorf("%d slots are taken", *slots)
		}
	}
}

// What a client is not to blame for closes no one.
func TestAttemptBlamesWhomItEnters(t *testing.T) {
	w := newWorld(t, 1, Limits{})
	w.noting()
	c := w.clients[0]
	before := w.env.Enter(c.s)
	if w.env.Attempt(func() { panic("bomb: no one's") }) || c.s.closed || w.env.Current() != c.s {
		t.Error("a panic on behalf of no one is blamed on a client")
	}
	w.env.Enter(before)
	if !w.env.Attempt(func() {}) {
		t.Error("what does not panic is not done")
	}
}

// A session that ends with a request of a limited recheck in flight, which is given up then,
// releases its place.
func TestCloseReleasesPlaces(t *testing.T) {
	w, c := subscribed(t)
	slots := new(counted)
	w.env.Reset = slots
	w.env.Hub.ResetAccess(fanout.Reset, everything)
	w.answer(0) // the grant: the request is sent
	reply := w.answers[0]
	if *slots != 1 {
		t.Fatalf("%d slots are taken", *slots)
	}
	c.s.Close()
	if *slots != 0 {
		t.Errorf("%d slots are taken", *slots)
	}
	if reply(); *slots != 0 { // should it arrive all the same
		t.Errorf("%d slots are taken", *slots)
	}
}
