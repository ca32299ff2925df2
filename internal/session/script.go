package session

import (
	"sluice/fanout"
	"sluice/internal/state"
)

// Script implements fanout.Subscriber: a long difference, which is sent in
// portions. Events that arrive before its end are queued.
func (b *Sub) Script(script *fanout.Script, prev *state.Snapshot) {
	before := b.s.env.Enter(b.s)
	switch {
	case b.state == subReady, b.state == subSent && (b.holds&holdAhead != 0 || b.ensureWork().pending()):
		// The script does not start from the state that b will have at its turn.
		w := b.ensureWork()
		w.latest = script.End()
		w.conflate(b.s.env.Metrics)
		w.keepBase(b.Topic())
	case b.state == subSent:
		b.fix(prev)
		b.work.setScript(script, b.Topic())
		b.resume()
	}
	b.s.env.Enter(before)
}

// sendPortion sends a portion of b's script. A later loop iteration sends the
// next one: by then the client may be a slow consumer, and other clients have
// got theirs.
func (b *Sub) sendPortion() {
	s, w := b.s, b.work
	script := w.script
	frames, end := script.Portion(w.at, s.variant())
	if frames != nil {
		w.snap, w.at = script.Event(end-1).Next, end
		b.endPortion()
		s.out.Send(frames)
		return
	}
	// Sending an event may end b's state, its work, or the script.
	for w.at < end && b.state == subSent && b.work == w && w.script == script && b.holds == 0 {
		e := script.Event(w.at)
		w.at++
		if w.at == end {
			b.endPortion() // before the event: it may resume b
		}
		b.process(e)
	}
}

// endPortion ends the script, or schedules its next portion.
func (b *Sub) endPortion() {
	if w := b.work; w.at == w.script.Len() {
		w.endScript()
		return
	}
	b.holds |= holdPace
	b.s.env.After(0, b.nextPortion)
}

func (b *Sub) nextPortion() {
	if b.holds&holdPace != 0 {
		b.holds &^= holdPace
		b.resume()
	}
}
