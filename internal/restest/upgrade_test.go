package restest

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"sluice/gateway"
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
}

// beside is a gateway that takes the clients of another one in the same process, with duplicates of
// their descriptors, as another process would have.
type beside struct {
	guests *owners.Guests
	lost   error
}

func (b *beside) Takes(bool) error { return nil }
func (b *beside) Ended() bool      { return false }
func (b *beside) Hand() error      { b.lost = b.guests.Serve(); return nil }

func (b *beside) Served() (lost, err error) { return b.lost, nil }

func (b *beside) Prepare(resources []owners.Resource) ([]int, error) {
	done := make(chan []int, 1)
	b.guests.Prepare(resources, func(failed []int) { done <- failed })
	return <-done, nil
}

func (b *beside) Offer(description, keys []byte, fds []int) error {
	var own []int
	for _, fd := range fds {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return err
		}
		own = append(own, dup)
	}
	return b.guests.Hold(slices.Clone(description), slices.Clone(keys), own)
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
	to := &beside{guests: w.moving.guests}
	moved := w.moving.moved
	go func() {
		m, err := old.g.Move(ctx, mostMoved, to, func(owners.Moving, int) {})
		if err == nil && (m.Left > 0 || m.Cut > 0 || m.Unknown > 0) {
			err = fmt.Errorf("not all clients have moved: %+v", m)
		}
		if err == nil {
			err = m.Lost
		}
		moved <- err
	}()
}

// upgraded ends an upgrade, if there is one: with all requests answered, all clients go over.
func (w *chaos) upgraded() {
	if w.moving == nil {
		return
	}
	testkit.Until(w.t, "the clients have moved", func() bool {
		w.goOn()
		select {
		case err := <-w.moving.moved:
			w.must(err)
			return true
		default:
			return false
		}
	})
	w.upgrades++
	w.moved = true
	w.must(w.moving.guests.Done(context.Background()))
	w.moving.old.Stop()
	w.moving = nil
}

// settle waits, after an upgrade, for the differences of clients that had events which do not come
// to the new gateway: it waits for those for a moment.
func (w *chaos) settle() {
	if !w.moved {
		return
	}
	began := time.Now()
	testkit.Until(w.t, "the clients have what they missed", func() bool {
		w.goOn()
		c, _, _ := w.wrong()
		return c == nil || time.Since(began) > testkit.Patience/2 // compare says what is wrong
	})
	w.moved = false
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
