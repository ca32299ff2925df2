package session

import (
	"sluice/fanout"
	"sluice/internal/state"
)

// Script implements fanout.Subscriber: a long difference, which is sent in
// portions. Events that come meanwhile wait behind it.
func (b *Sub) Script(script *fanout.Script, prev *state.Snapshot) {
	before := b.s.env.Enter(b.s)
	b.take(script, prev)
	b.s.env.Enter(before)
}

func (b *Sub) take(script *fanout.Script, prev *state.Snapshot) {
	if b.state != subSent && b.state != subReady {
		return
	}
	w := b.busy()
	if b.state == subReady || w.waits() {
		// It does not lead on from where b will be when its turn comes.
		w.latest = script.End()
		w.conflate(b.s.env.Metrics)
		return
	}
	b.pin(prev)
	w.script, w.at = script, 0
	b.resume()
}

// waits reports whether there is something to be sent before the next event.
func (w *work) waits() bool { return w.script != nil || len(w.queue) > 0 || w.conflated }

// play sends a portion of b's script. The next one is left to a later turn: by
// then the client may turn out to lag, and others have got theirs.
func (b *Sub) play() {
	s, w := b.s, b.work
	script := w.script
	frames, end := script.Portion(w.at, s.variant())
	if frames != nil {
		w.snap, w.at = script.Event(end-1).Next, end
		b.pace()
		s.out.Send(frames)
		return
	}
	for w.at < end && b.playing(w, script) && b.hold == 0 {
		e := script.Event(w.at)
		w.at++
		if w.at == end {
			b.pace() // before the event: it may lead on to the next
		}
		b.process(e)
	}
}

// pace ends a portion.
func (b *Sub) pace() {
	if w := b.work; w.at == w.script.Len() {
		w.script = nil
		return
	}
	b.hold |= holdPace
	b.s.env.After(0, b.unpace)
}

// playing reports whether b is still at script: sending an event can end it.
func (b *Sub) playing(w *work, script *fanout.Script) bool {
	return b.state == subSent && b.work == w && w.script == script
}

// unpace begins the next portion.
func (b *Sub) unpace() {
	if b.hold&holdPace != 0 {
		b.hold &^= holdPace
		b.resume()
	}
}
