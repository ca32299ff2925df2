package owners

import (
	"context"
	"runtime/debug"
	"time"

	"sluice/internal/memory"
	"sluice/internal/overlap"
	"sluice/netpoll"
)

// Successor is the process that clients go over to.
type Successor interface {
	// Takes returns why it cannot go on with connections, which may have TLS; nil: it can.
	Takes(tls bool) error
	// Prepare has it subscribe to resources, and returns the numbers of those that it cannot have.
	// The end of ctx ends the wait.
	Prepare(ctx context.Context, resources []Resource) (failed []int, err error)
	// Offer sends it clients: a description, the keys of those with TLS, and their descriptors. All
	// stay the caller's. If it holds them, Hand follows. If it has not said so in time, it does not
	// use them, and they may be offered again. After an error it does not use them either, and can
	// have no more.
	Offer(description, keys []byte, fds []int) (holds bool, err error)
	// Hand makes the clients of Offer its own, unless it returns an error. Otherwise Served
	// follows.
	Hand() error
	// Served waits until it serves them, or ctx ends. lost says why it has closed some; err, that
	// it can have no more.
	Served(ctx context.Context) (lost, err error)
	// Ended reports, after an error, whether it has ended, so that it uses no descriptor any more.
	Ended() bool
}

const (
	// moveBatches is how many batches there are at least, if there are enough clients: the other
	// process gives each to another of its loops.
	moveBatches = 64
	// moveAgain is the pause before clients that were not at rest are tried again.
	moveAgain = 20 * time.Millisecond
	// calm is for how long no clients go after the other process has taken very long to answer: if
	// it was stopped, it has got events late, and these must not count any more (see fanout.Seam).
	calm = overlap.Apart + 2*time.Second
	// blindWait is how long Pack waits where NATS does not tell what it has sent.
	blindWait = 200 * time.Millisecond
	// What clients have used is given back to the system so many times while they go: two processes
	// hold them, for which there may be no memory. With fewer than fewClients it does not pay.
	moveReleases = 8
	fewClients   = 1000
	// movePatience is added to the timeout of requests: as long goes on what moves no client, and
	// at least for so many rounds, of which a process with little CPU makes few.
	movePatience = 2 * time.Second
	moveRounds   = 20
	// longestStill bounds it if the time passes with waits for the other process.
	longestStill = 2 * time.Minute
)

// stillness says when it is given up to move clients, because none has moved. The time that the
// other process has taken is not theirs: a slow one must not lose clients to their drain.
type stillness struct {
	patience time.Duration
	since    time.Duration // when one has moved
	awaited  time.Duration // the other process, since then
	rounds   int           // since then
}

// over is called after a round that has ended now.
func (s *stillness) over(now time.Duration, moved bool) bool {
	if moved {
		s.since, s.awaited, s.rounds = now, 0, 0
		return false
	}
	s.rounds++
	still := now - s.since
	return still > longestStill || s.rounds >= moveRounds && still-s.awaited > s.patience
}

// Moving is how far clients have gone.
type Moving struct {
	Moved, Left int
	Streams     int   // of those that have moved
	Resources   int   // that the other process has subscribed to for them
	Cut         int   // could neither go nor stay
	Unknown     int   // are the other process's, which hangs: it does not say that it serves them
	Lost        error // why some were lost; nil: none

	Waits map[string]int // what those that are left waited for when they were last tried, and how many of them
}

// Move moves the WebSocket clients and the streams to another process: those at rest immediately,
// the others when their requests are answered. It returns when none is left, when for longer than a
// request may take none has gone, when ctx ends, or when the other process fails. The clients that
// are left stay here: also those of a batch that the other process does not take. most is how many
// may go over at a time. progress is called after each batch.
func (s *Set) Move(ctx context.Context, e *netpoll.Engine, open, most int, to Successor, progress func(Moving)) (m Moving, err error) {
	if s.o.Config.TLS {
		err = netpoll.MovesTLS()
	}
	if err == nil {
		err = to.Takes(s.o.Config.TLS)
	}
	if err != nil {
		return Moving{Left: open}, err
	}
	s.guests.expect(1)
	defer s.guests.expect(-1)
	defer func() {
		if err != nil {
			m.Left = max(m.Left, open-m.Moved-m.Cut-m.Unknown)
		}
	}()
	mover := &mover{set: s, engine: e, prepared: make(map[Resource]struct{})}
	defer memory.Lean()()
	mover.release(0, open)
	most = min(max(open/moveBatches, 4), most)
	mover.still = stillness{patience: s.o.Config.RequestTimeout + movePatience, since: s.o.Clock.Now()}
	for {
		before := m.Moved
		m.Left, m.Waits = 0, make(map[string]int)
		for loop := range s.loops {
			for from := 0; from >= 0; {
				if ctx.Err() != nil {
					return m, ctx.Err()
				}
				if from, err = mover.step(ctx, &m, loop, from, most, to); err != nil {
					return m, err
				}
				progress(m)
				mover.release(m.Moved, open)
			}
		}
		if m.Left == 0 || mover.still.over(s.o.Clock.Now(), m.Moved > before) {
			return m, nil
		}
		select {
		case <-time.After(moveAgain):
		case <-ctx.Done():
		}
	}
}

// pause returns after d, or with ctx's error.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// release gives the memory that clients have left back to the system, if enough of them have gone.
func (m *mover) release(gone, of int) {
	if of >= fewClients && gone >= m.released*of/moveReleases {
		m.released++
		debug.FreeOSMemory()
	}
}

// wait adds what the clients of a plan wait for.
func (m *Moving) wait(p *plan) {
	for why, n := range p.why {
		m.Waits[why] += n
	}
}

// step moves a batch. It returns where the loop's next one begins; -1: there is none.
func (m *mover) step(ctx context.Context, sum *Moving, loop, from, most int, to Successor) (next int, err error) {
	p, err := m.plan(ctx, loop, from, most)
	if err != nil || p.clients == 0 {
		if err == nil {
			sum.Left += p.busy
			sum.wait(p)
		}
		return p.next, err
	}
	clock := m.set.o.Clock
	asked := clock.Now()
	failed, err := to.Prepare(ctx, p.resources)
	if err == nil && (m.late || clock.Now()-asked > overlap.Apart/2) {
		m.late = false
		err = pause(ctx, calm)
	}
	m.still.awaited += clock.Now() - asked
	if err != nil {
		return -1, err
	}
	for _, r := range p.resources {
		m.prepared[r] = struct{}{}
	}
	sum.Resources = len(m.prepared)
	if m.blind {
		if err := pause(ctx, blindWait); err != nil {
			return -1, err
		}
	}
	packed, err := m.pack(p, failed)
	defer func() { clear(packed.keys) }()
	sum.Left += p.busy + p.clients - packed.moved
	sum.wait(p)
	if packed.moved == 0 {
		return p.next, err
	}
	defer release(p.loop, p.keepers)
	holds := false
	if err == nil {
		asked = clock.Now()
		holds, err = to.Offer(packed.body, packed.keys, packed.fds)
		m.still.awaited += clock.Now() - asked
	}
	if holds && err == nil {
		err = to.Hand()
	}
	if !holds || err != nil {
		back := m.back(p, &packed, func(int) bool { return false })
		sum.Left += back
		sum.Cut += packed.moved - back
		if m.late = err == nil; !m.late {
			p.next = -1
		}
		return p.next, err
	}
	lost, err := to.Served(ctx)
	if lost != nil {
		sum.Lost = lost
	}
	switch {
	case err == nil:
		sum.Moved += packed.moved
		sum.Streams += packed.streams
	case to.Ended(): // those that it has not served yet are as they were
		back := m.back(p, &packed, func(i int) bool { return !packed.was[i].Untouched(packed.fds[i]) })
		sum.Left += back
		sum.Cut += packed.moved - back
		return -1, err
	default:
		sum.Unknown += packed.moved
		p.next = -1
	}
	for _, fd := range packed.fds {
		netpoll.CloseFD(fd)
	}
	return p.next, err
}
