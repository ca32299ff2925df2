package restest

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/gateway"
	"sluice/internal/overlap"
	"sluice/internal/owners"
	"sluice/internal/testkit"
	"sluice/netpoll"
)

// movesClients reports whether a gateway's clients can go on in another one (docs/upgrade.md).
const movesClients = runtime.GOOS == "linux"

// mostMoved is how many clients go over at a time. There are more.
const mostMoved = 5

// succession is an upgrade of the chaos test's gateway, whose clients go over to another one in
// this process. The test's goroutine owns it.
type succession struct {
	old    Gateway
	guests *owners.Guests
	moved  chan error // one result, when none is left in the old gateway

	mu       sync.Mutex
	progress owners.Moving // as reported last
	asked    []owners.Resource
	askedAt  time.Time // the zero time: the new gateway has answered
	failed   []int     // of asked, as it has answered last that not all can be had
}

// beside is a gateway that takes the clients of another one in the same process, with duplicates of
// their descriptors, as another process would have.
type beside struct {
	*succession
	lost error
}

func (b *beside) Takes(bool) error { return nil }
func (b *beside) Ended() bool      { return false }
func (b *beside) Hand() error      { b.lost = b.guests.Serve(); return nil }

func (b *beside) Served(context.Context) (lost, err error) { return b.lost, nil }

func (b *beside) Prepare(_ context.Context, resources []owners.Resource) ([]int, error) {
	b.note(func() { b.asked, b.askedAt = resources, time.Now() })
	done := make(chan []int, 1)
	b.guests.Prepare(resources, func(failed []int) { done <- failed })
	failed := <-done
	b.note(func() { b.failed, b.askedAt = failed, time.Time{} })
	return failed, nil
}

// note changes what is said of an upgrade that does not end.
func (s *succession) note(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (b *beside) Offer(description, keys []byte, fds []int) (bool, error) {
	var own []int
	for _, fd := range fds {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return false, err
		}
		own = append(own, dup)
	}
	if err := b.guests.Hold(slices.Clone(description), slices.Clone(keys), own); err != nil {
		return false, err
	}
	return true, nil
}

// upgrade begins an upgrade, unless one has yet to end.
func (w *chaos) upgrade() {
	if w.moving != nil || !movesClients {
		return
	}
	ctx := context.Background()
	old := w.gateway.(running)
	w.must(old.g.Remember(ctx, true))
	sockets, err := old.g.Sockets()
	w.must(err)
	var listeners []net.Listener
	for _, fd := range sockets.Clients {
		f := os.NewFile(uintptr(fd), "listener")
		l, err := net.FileListener(f)
		w.must(err)
		_ = f.Close()
		listeners = append(listeners, l)
	}
	w.gateway, err = w.start(func(c *gateway.Config) { c.Listeners, c.TakesOver = listeners, true })
	w.must(err)
	w.t.Cleanup(w.gateway.Stop)
	g := w.gateway.(running).g
	w.moving = &succession{old: old, moved: make(chan error, 1)}
	w.moving.guests, err = g.Guests(ctx)
	w.must(err)
	old.g.Leave(false, func(all []netpoll.Departed) {
		for _, d := range all {
			g.Arrive(d)
		}
	})
	moving := w.moving
	go func() {
		m, err := old.g.Move(ctx, mostMoved, &beside{succession: moving}, func(m owners.Moving, _ int) {
			m.Waits = maps.Clone(m.Waits)
			moving.note(func() { moving.progress = m })
		})
		if err == nil && (m.Left > 0 || m.Cut > 0 || m.Unknown > 0) {
			err = fmt.Errorf("not all clients have moved: %+v", m)
		}
		if err == nil {
			err = m.Lost
		}
		moving.moved <- err
	}()
}

// upgraded ends an upgrade, if there is one: with all requests answered, all clients go over.
func (w *chaos) upgraded() {
	if w.moving == nil {
		return
	}
	over := time.Now().Add(testkit.Patience)
	for moved := false; !moved; {
		w.goOn()
		select {
		case err := <-w.moving.moved:
			w.must(err)
			moved = true
		case <-time.After(time.Millisecond):
			if time.Now().After(over) {
				w.t.Fatalf("seed %d, round %d: the clients have not moved\n%s", w.seed, w.round, w.stuck())
			}
		}
	}
	w.upgrades++
	w.movedAt = time.Now()
	w.must(w.moving.guests.Done(context.Background()))
	w.moving.old.Stop()
	w.moving = nil
}

// stuck says what an upgrade waits for.
func (w *chaos) stuck() string {
	m := w.moving
	m.mu.Lock()
	defer m.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "%d have moved, %d are left, which wait for %v\n", m.progress.Moved, m.progress.Left, m.progress.Waits)
	if !m.askedAt.IsZero() {
		fmt.Fprintf(&b, "the new gateway has been asked for %v, %v ago\n", m.asked, time.Since(m.askedAt))
	}
	if len(m.failed) > 0 && m.askedAt.IsZero() {
		for _, i := range m.failed {
			fmt.Fprintf(&b, "the new gateway has no %v\n", m.asked[i])
		}
	}
	for _, r := range w.open {
		fmt.Fprintf(&b, "the service has yet to answer %s %s\n", r.Subject, r.Data)
	}
	fmt.Fprintf(&b, "the new gateway:\n%s", w.gateway.(running).look())
	return b.String() + w.log.String()
}

// settle waits, after an upgrade, for clients that had events which do not come to the new gateway:
// it waits for those for a moment, in which it sends no difference and does not recheck access. The
// next rounds may fall into that, too.
func (w *chaos) settle() {
	if c, _, _ := w.wrong(); c == nil || time.Since(w.movedAt) > 2*overlap.Apart {
		return
	}
	began := time.Now()
	testkit.Until(w.t, "the clients have what they missed", func() bool {
		w.goOn()
		c, _, _ := w.wrong()
		return c == nil || time.Since(began) > testkit.Patience/2 // compare says what is wrong
	})
	w.rest()
}

// goOn answers all requests, and has the clients take what they have received.
func (w *chaos) goOn() {
	w.collect()
	w.answer(len(w.open))
	for _, c := range w.clients {
		w.fold(c)
	}
}

func (w *chaos) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("seed %d, round %d: %v", w.seed, w.round, err)
	}
}

// TestUpgradeDuringQueryEvent: what follows a query event waits in the old gateway for the replies
// to that. The new gateway, which has subscribed since, does not get it: clients go over when they
// have it.
func TestUpgradeDuringQueryEvent(t *testing.T) {
	if !movesClients {
		return
	}
	const rid = "w.query.1?from=1&count=2"
	w := newChaos(t, chaosSeed(t), startNATS(t).ClientURL(), func(c *gateway.Config) {})
	for _, c := range w.clients {
		w.send(c, "subscribe."+rid, "")
	}
	w.rest()
	subject, payload := w.store.ChangeSliced("w.query.1", []any{1, 2, 3})
	w.publish("w.query.1", "query", payload)
	testkit.Until(t, "the query event waits for its reply", func() bool {
		w.collect()
		return slices.ContainsFunc(w.open, func(r *Request) bool { return r.Subject == subject })
	})
	w.store.Deny("w.query.1", true)
	w.publish("w.query.1", "reaccess", "")
	w.must(w.service.Flush())
	connections := make([]*Client, len(w.clients))
	for i, c := range w.clients {
		connections[i] = c.Client
	}
	w.roundTrip(connections) // the old gateway has the event
	w.upgrade()
	old := w.open
	w.open = nil
	testkit.Until(t, "the clients wait for the replies, or have moved", func() bool {
		w.collect()
		w.answer(len(w.open)) // to the new gateway
		var p owners.Moving
		w.moving.note(func() { p = w.moving.progress })
		return p.Waits["the replies to a query event"] > 0 || p.Moved > 0
	})
	w.open = old
	w.rest()
	w.settle()
	w.compare()
	for _, c := range w.clients {
		if len(c.view.Subscribed()) > 0 {
			t.Errorf("%s is still subscribed: %v", c.Name, c.view.Subscribed())
		}
	}
}
