package owner

import (
	"math/bits"
	"time"
)

const (
	wheelBits   = 6
	wheelSlots  = 1 << wheelBits
	wheelLevels = 8 // 2^48 ticks: more than time.Duration can say at minTick
	minTick     = 100 * time.Microsecond
)

// Expirer handles an expired timer. now is the time given to Advance or Judge, at or after the
// deadline.
type Expirer interface{ Expire(now time.Duration) }

// Func is a function as an Expirer.
type Func func(now time.Duration)

// Expire implements Expirer.
func (f Func) Expire(now time.Duration) { f(now) }

// Timer is one deadline on a wheel, held by value in what it belongs to. The zero value is idle. It
// must not be moved or copied while armed, and belongs to the owner of the wheel it is armed on.
type Timer struct {
	next, prev *Timer // in a ring with its slot's head; nil if idle
	tick       int64  // when, in ticks, and kind; in a head: which slot it is, or noSlot
	e          Expirer
}

const noSlot = -1

// kind decides what happens to a timer that is due. It is the low bits of Timer.tick.
type kind int64

const (
	work       kind = iota // armed by Schedule: it fires
	expected               // armed by Expect: due at the start of its slack
	seen                   // the owner had a turn within the slack: due at its deadline
	putOff                 // has been deferred, and is not deferred again
	kindBits   = 2
	kindOfTick = 1<<kindBits - 1
)

func (t *Timer) set(tick int64, k kind) { t.tick = tick<<kindBits | int64(k) }
func (t *Timer) at() int64              { return t.tick >> kindBits }
func (t *Timer) kind() kind             { return kind(t.tick & kindOfTick) }

// A deadline for a peer, such as a service or a client, means that the peer was late. An owner that
// did not run cannot know that: the input may wait in a socket or a mailbox. A process may be
// stopped for a minute, a virtual machine paused, a container throttled. So Expect arms such a
// deadline, and Judge checks it at the end of a turn, after the turn's input. It fires only if the
// owner ran shortly before and shortly after it. Otherwise it is deferred, once.
const (
	// Slack is the longest pause of an owner around a deadline that fires.
	Slack = 100 * time.Millisecond
	// Grace is how long a deadline is deferred: the time to handle the input that has queued up.
	Grace = 2 * time.Second
)

// Armed reports whether the timer waits for its deadline.
func (t *Timer) Armed() bool { return t.next != nil }

// Wheel is a hierarchical timing wheel: arming and cancelling cost the same however many timers
// there are, and time that passes without a deadline costs nothing. It belongs to one owner and
// never locks; nothing is allocated after NewWheel.
//
// A level has 64 slots, and a slot of level n spans 64^n ticks. With time written as digits of base
// 64, a timer lives on the level of the highest digit in which its time differs from the present,
// in the slot of that digit. Hence, at any time:
//
//   - a timer on a lower level is due before every timer on a higher one;
//   - within a level, only slots after the present digit are taken;
//   - when time reaches the start of a slot, its timers are due or belong to a lower level.
type Wheel struct {
	tick      time.Duration
	slack     int64 // Slack in ticks
	grace     int64 // Grace in ticks
	present   int64 // ticks; every deadline up to it has been handled
	advancing bool
	fired     Expirer                        // whose Expire runs; nil: none
	taken     [wheelLevels]uint64            // bit set: the slot has timers
	slots     [wheelLevels][wheelSlots]Timer // heads of the slots' rings
	late      Timer                          // head: deadline not after present when armed
	due       Timer                          // head: about to be fired by the running Advance
	overdue   Timer                          // head: armed by Expect, to be judged
}

// NewWheel returns a wheel whose deadlines are rounded up to multiples of tick (at least 100 µs).
// now is the owner's present time.
func NewWheel(tick, now time.Duration) *Wheel {
	tick = max(tick, minTick)
	w := &Wheel{tick: tick, present: max(int64(now/tick), 0)}
	w.slack, w.grace = max(int64(Slack/tick), 1), max(int64(Grace/tick), 1)
	for l := range w.slots {
		for s := range w.slots[l] {
			w.slots[l][s].makeHead(int64(l<<wheelBits | s))
		}
	}
	w.late.makeHead(noSlot)
	w.due.makeHead(noSlot)
	w.overdue.makeHead(noSlot)
	return w
}

func (t *Timer) makeHead(slot int64) { t.next, t.prev, t.tick = t, t, slot }

func (t *Timer) empty() bool { return t.next == t }

// push adds t at the end of the ring of head h.
func (h *Timer) push(t *Timer) {
	t.prev, t.next = h.prev, h
	h.prev.next = t
	h.prev = t
}

// moveTo puts the ring of head h behind that of head to, keeping its order.
func (h *Timer) moveTo(to *Timer) {
	if h.empty() {
		return
	}
	h.next.prev, h.prev.next = to.prev, to
	to.prev.next, to.prev = h.next, h.prev
	h.next, h.prev = h, h
}

// Schedule arms t for the time at, when Advance calls e. It replaces an earlier deadline of t. A
// deadline in the past is due at the next Advance, never within the call.
func (w *Wheel) Schedule(t *Timer, at time.Duration, e Expirer) { w.arm(t, w.ticks(at), work, e) }

// Expect is Schedule for a deadline of a peer: Judge calls e, and later if the owner did not run
// around the deadline (see Slack).
func (w *Wheel) Expect(t *Timer, at time.Duration, e Expirer) {
	tick, k := w.ticks(at), seen
	if begin := tick - w.slack; begin > w.present {
		tick, k = begin, expected
	}
	w.arm(t, tick, k, e)
}

// ticks returns the time at, rounded up to ticks.
func (w *Wheel) ticks(at time.Duration) int64 {
	tick := int64(at / w.tick)
	if at > 0 && at%w.tick != 0 {
		tick++
	}
	return tick
}

func (w *Wheel) arm(t *Timer, tick int64, k kind, e Expirer) {
	if t.Armed() {
		w.unlink(t)
	}
	t.e = e
	t.set(tick, k)
	if tick <= w.present {
		w.late.push(t)
		return
	}
	w.insert(t)
}

// insert puts a timer whose deadline is after the present into its slot.
func (w *Wheel) insert(t *Timer) {
	tick := t.at()
	level := (63 - bits.LeadingZeros64(uint64(tick^w.present))) / wheelBits
	slot := tick >> (level * wheelBits) & (wheelSlots - 1)
	w.slots[level][slot].push(t)
	w.taken[level] |= 1 << slot
}

// Cancel disarms t. Cancelling an idle timer does nothing.
func (w *Wheel) Cancel(t *Timer) {
	if t.Armed() {
		w.unlink(t)
		t.e = nil
	}
}

func (w *Wheel) unlink(t *Timer) {
	t.prev.next, t.next.prev = t.next, t.prev
	if h := t.next; h == t.prev && h.tick != noSlot && h.empty() {
		w.taken[h.tick>>wheelBits] &^= 1 << (h.tick & (wheelSlots - 1))
	}
	t.next, t.prev = nil, nil
}

// Advance fires every timer of Schedule whose deadline is at or before now, in order of deadline in
// ticks; within a tick the order is undefined. It leaves those of Expect to the next Judge. A timer
// is idle when its Expire is called. Expire may schedule and cancel any timer of the wheel, but a
// call of Advance from within it does nothing.
func (w *Wheel) Advance(now time.Duration) {
	if w.advancing {
		return
	}
	w.advancing, w.fired = true, nil
	defer w.rest()
	end := int64(now / w.tick)
	w.late.moveTo(&w.due)
	w.fire(now, end)
	for {
		start, level, ok := w.first()
		if !ok || start > end {
			break
		}
		w.present = start
		slot := start >> (level * wheelBits) & (wheelSlots - 1)
		w.taken[level] &^= 1 << slot
		head := &w.slots[level][slot]
		if level == 0 {
			head.moveTo(&w.due)
		}
		for !head.empty() {
			t := head.next
			head.next, t.next.prev = t.next, head
			if t.at() <= start {
				w.due.push(t)
			} else {
				w.insert(t)
			}
		}
		w.fire(now, end)
	}
	w.present = max(w.present, end)
}

// rest ends Advance or Judge, also if an Expire panics; timers that are due stay so.
func (w *Wheel) rest() { w.advancing = false }

// Fired returns the Expirer that panicked in the last Advance or Judge, nil if none did.
func (w *Wheel) Fired() Expirer { return w.fired }

// fire fires what is due and belongs to Schedule; end is the time that the wheel is about to reach,
// in ticks.
func (w *Wheel) fire(now time.Duration, end int64) {
	for !w.due.empty() {
		t := w.due.next
		switch k := t.kind(); {
		case k == work:
			e := t.e
			w.Cancel(t)
			w.fired = e
			e.Expire(now)
		case k == expected && t.at()+w.slack > end:
			w.unlink(t)
			t.set(t.at()+w.slack, seen)
			w.insert(t)
		default:
			w.unlink(t)
			w.overdue.push(t)
		}
	}
	w.fired = nil
}

// Overdue reports whether Judge has something to do.
func (w *Wheel) Overdue() bool { return !w.overdue.empty() }

// Judge fires the timers of Expect whose deadline Advance has found passed. If the owner did not
// run around a deadline, or has unhandled input (behind), Judge defers it instead, once. The owner
// calls it after the turn's input. It reports whether it has fired any.
func (w *Wheel) Judge(now time.Duration, behind bool) (fired bool) {
	return w.JudgeUntil(now, now, behind)
}

// JudgeUntil is Judge for deadlines at or before until. Later ones stay overdue: their input may
// not have been handled.
func (w *Wheel) JudgeUntil(now, until time.Duration, behind bool) (fired bool) {
	if w.advancing {
		return false
	}
	w.advancing, w.fired = true, nil
	defer w.rest()
	last := int64(until / w.tick)
	for !w.overdue.empty() && w.overdue.next.at() <= last {
		t := w.overdue.next
		k := t.kind()
		if k == expected || k == seen && (behind || w.present-t.at() > w.slack) {
			w.unlink(t)
			t.set(w.present+w.grace, putOff)
			w.insert(t)
			continue
		}
		e := t.e
		w.Cancel(t)
		w.fired = e
		e.Expire(now)
		fired = true
	}
	w.fired = nil
	return fired
}

// first returns the taken slot that time reaches first: its start in ticks and its level.
func (w *Wheel) first() (start int64, level int, ok bool) {
	for level := range w.taken {
		if w.taken[level] != 0 {
			slot := int64(bits.TrailingZeros64(w.taken[level]))
			above := (level + 1) * wheelBits
			return w.present>>above<<above | slot<<(level*wheelBits), level, true
		}
	}
	return 0, 0, false
}

// Next returns when Advance should be called next; ok is false if no timer is armed. For deadlines
// further than 64 ticks away the time may be early, by at most one slot of the deadline's level:
// Advance then only moves the timers of that slot nearer.
func (w *Wheel) Next() (at time.Duration, ok bool) {
	if !w.late.empty() || !w.due.empty() || !w.overdue.empty() {
		return time.Duration(w.present) * w.tick, true
	}
	start, _, ok := w.first()
	return time.Duration(start) * w.tick, ok
}
