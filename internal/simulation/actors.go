package simulation

import (
	"fmt"
	"time"
)

// actor is one that may act: ready reports whether it has anything to do.
type actor struct {
	name  string
	ready func() bool
	run   func()
}

// The kinds of actors, by how often they act.
const (
	machine  = iota // what acts because something waits for it
	answers         // services answer
	acts            // clients do something
	changes         // services do something
	passes          // time passes
	troubles        // the network fails
	kinds
)

// shares are the parts of 100 steps.
var shares = [kinds]int{machine: 58, answers: 14, acts: 12, changes: 11, passes: 4, troubles: 1}

func (w *world) add(kind int, name string, ready func() bool, run func()) {
	w.weighed[kind] = append(w.weighed[kind], len(w.actors))
	w.actors = append(w.actors, actor{name, ready, run})
}

func (w *world) makeActors() {
	for i, l := range w.net4.Loops {
		w.add(machine, fmt.Sprint("loop ", i), l.Woken, l.Turn)
	}
	for i, s := range w.owners.Shards() {
		w.add(machine, fmt.Sprint("shard ", i), s.Cache.Due, s.Cache.Turn)
	}
	for i, l := range w.net.links {
		d := l.driven
		w.add(machine, fmt.Sprint("publisher ", i), d.Publishing, d.Publish)
		w.add(machine, fmt.Sprint("dispatcher ", i), func() bool { return d.Dispatching() > 0 }, func() { d.Dispatch(w.pick(d.Dispatching())) })
		w.add(machine, fmt.Sprint("link ", i, " to NATS"), func() bool { return len(l.out) > 0 }, func() { w.net.arrive(l) })
		w.add(machine, fmt.Sprint("NATS to link ", i), func() bool { return len(l.in) > 0 }, func() { w.net.receive(l) })
		w.add(machine, fmt.Sprint("callbacks ", i), func() bool { return len(l.callbacks) > 0 && d.Room() }, func() { w.net.call(l) })
	}
	for _, s := range w.services {
		w.add(machine, s.name+" to NATS", func() bool { return len(s.out) > 0 }, s.send)
		w.add(answers, s.name+" answers", func() bool { return len(s.open) > 0 }, s.answer)
		w.add(changes, s.name+" changes", func() bool { return !s.away }, s.change)
		w.add(troubles, s.name+" ends", func() bool { return !s.away }, s.leave)
		w.add(answers, s.name+" starts", func() bool { return s.away }, s.come)
	}
	for _, c := range w.clients {
		w.add(machine, c.name+" to loop", func() bool { return len(c.out) > 0 }, c.deliver)
		w.add(machine, c.name+" reads", func() bool { return len(c.in) > 0 && !c.stalled }, c.read)
		w.add(acts, c.name+" acts", func() bool { return c.conn != nil }, c.act)
		w.add(acts, c.name+" connects", func() bool { return c.conn == nil }, c.connect)
	}
	for _, b := range w.browsers {
		w.add(machine, b.name+" to loop", func() bool { return len(b.out) > 0 }, b.deliver)
		w.add(machine, b.name+" reads", func() bool { return len(b.in) > 0 && !b.stalled }, b.read)
		w.add(acts, b.name+" acts", func() bool { return true }, b.act)
	}
	for _, s := range w.streams {
		w.add(machine, s.name+" to loop", func() bool { return len(s.out) > 0 }, s.deliver)
		w.add(machine, s.name+" reads", func() bool { return (len(s.in) > 0 || s.over) && !s.stalled }, s.read)
		w.add(acts, s.name+" acts", func() bool { return true }, s.act)
	}
	w.add(passes, "clock", func() bool { return true }, func() {
		w.pass([]time.Duration{time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond, 120 * time.Millisecond, time.Second}[w.pick(5)])
	})
	for i, l := range w.net.links {
		w.add(troubles, fmt.Sprint("cut of link ", i), func() bool { return l.up && len(l.callbacks) == 0 }, func() { w.net.cut(l) })
		w.add(answers, fmt.Sprint("return of link ", i), func() bool { return !l.up && len(l.callbacks) == 0 }, func() {
			w.pass(100 * time.Millisecond)
			w.net.restore(l)
		})
	}
}

// pass lets time pass.
func (w *world) pass(d time.Duration) {
	w.logf("%v pass", d)
	w.clock.Advance(d)
}

// choose chooses who acts next; -1: nobody of the kind that was chosen.
func (w *world) choose() int {
	n := w.rng.IntN(100)
	for kind, share := range shares {
		if n -= share; n < 0 {
			return w.chooseOf(kind)
		}
	}
	return -1
}

func (w *world) chooseOf(kind int) int {
	ready := 0
	for _, i := range w.weighed[kind] {
		if w.actors[i].ready() {
			ready++
		}
	}
	if ready == 0 {
		return -1
	}
	n := w.rng.IntN(ready)
	for _, i := range w.weighed[kind] {
		if w.actors[i].ready() {
			if n == 0 {
				return i
			}
			n--
		}
	}
	return -1
}

// act has an actor act, if it has something to do.
func (w *world) act(i int) {
	if a := &w.actors[i]; a.ready() {
		w.note("-- ", a.name)
		a.run()
	}
}
