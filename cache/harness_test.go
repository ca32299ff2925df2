package cache

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"sluice/internal/limit"
	"sluice/internal/owner"
	"sluice/internal/res"
	"sluice/internal/state"
)

// harness drives a shard on the test's goroutine and in fake time, with a Bus and Loops that record
// their calls.
type harness struct {
	t      *testing.T
	clock  *owner.ManualClock
	s      *Shard
	out    bytes.Buffer
	asked  []*asked
	folded map[subKey]*state.Snapshot // each sub's state, as its loop would have it
	load   []int                      // the loops' backlogs
	ended  func(subKey)               // a sub has failed or been deleted; may be nil
	bomb   func(what string)          // called for each call of the shard, and may panic; may be nil
	bombed bool                       // there was one
}

// asked is a request without a reply yet.
type asked struct {
	name, subject, payload string
	done                   func([]byte, *res.Error)
}

func newHarness(t *testing.T, opt Options) *harness {
	h := &harness{t: t, clock: owner.NewManualClock(), folded: map[subKey]*state.Snapshot{}}
	opt.Loops = max(opt.Loops, 2)
	h.load = make([]int, opt.Loops)
	opt.Clock = h.clock
	opt.Log = slog.New(logWriter{h})
	if opt.LogEvery == 0 {
		opt.LogEvery = -1
	}
	h.s = NewShard(opt, h, (*harnessLoops)(h))
	return h
}

func (h *harness) say(format string, args ...any) { fmt.Fprintf(&h.out, format+"\n", args...) }

// said returns the calls recorded since it was last called.
func (h *harness) said() string {
	defer h.out.Reset()
	return h.out.String()
}

// turns runs turns of the shard until it is idle.
func (h *harness) turns() {
	for {
		select {
		case <-h.s.wakeups:
			h.s.turn()
		default:
			return
		}
	}
}

// advance advances the clock from timer to timer.
func (h *harness) advance(d time.Duration) {
	end := h.clock.Now() + d
	for {
		at, ok := h.clock.Next()
		if !ok || at > end {
			break
		}
		h.clock.Advance(at - h.clock.Now())
		h.turns()
	}
	h.clock.Advance(end - h.clock.Now())
	h.turns()
}

func (h *harness) Subscribe(name string)   { h.tick("subscribe"); h.say("subscribed event.%s.*", name) }
func (h *harness) Unsubscribe(name string) { h.say("unsubscribed event.%s.*", name) }
func (h *harness) Flush()                  { h.tick("flush") }

func (h *harness) tick(what string) {
	if h.bomb != nil {
		h.bombed = true
		h.bomb(what)
	}
}

func (h *harness) Request(_ limit.Priority, name, subject string, payload []byte, done func([]byte, *res.Error)) {
	h.tick("request")
	if !res.ValidSubject(subject) {
		h.t.Errorf("subject %q is invalid", subject)
	}
	h.say("service < %s %s", subject, payload)
	h.asked = append(h.asked, &asked{name, subject, string(payload), done})
}

// answer replies to the oldest request to subject whose payload contains part.
func (h *harness) answer(subject, part string, payload []byte, err *res.Error) bool {
	for i, a := range h.asked {
		if a.subject == subject && strings.Contains(a.payload, part) {
			h.asked = append(h.asked[:i], h.asked[i+1:]...)
			h.s.Run(func() { a.reply(payload, err) })
			return true
		}
	}
	return false
}

// reply passes on a copy of the payload and overwrites it afterwards, so that a shard that keeps a
// part of it fails.
func (a *asked) reply(payload []byte, err *res.Error) {
	passing := bytes.Clone(payload)
	a.done(passing, err)
	for i := range passing {
		passing[i] = '#'
	}
}

type harnessLoops harness

func (l *harnessLoops) Backlog(loop int) int { return l.load[loop] }

func (l *harnessLoops) Post(loop int, u state.Update) {
	h := (*harness)(l)
	h.tick("post " + u.Kind.String())
	h.say("loop %d < %d %s", loop, u.Ref, describe(u))
	key := subKey{loop, u.Ref}
	if h.bombed && u.Kind == state.Synced && h.folded[key] == nil {
		u.Kind = state.Loaded // the panic was in between
	}
	if h.bombed && u.Kind == state.Failed {
		delete(h.folded, key) // what cannot be served any more
	}
	if err := fold(h.folded, key, u); err != nil {
		h.t.Errorf("loop %d, ref %d: %v", loop, u.Ref, err)
	}
	if over := u.Kind == state.Failed || u.Kind == state.Applied && u.Event.Kind == state.Delete; over && h.ended != nil {
		h.ended(key)
	}
}

func describe(u state.Update) string {
	switch u.Kind {
	case state.Synced:
		text := fmt.Sprintf("%v %s", u.Kind, u.Snapshot.JSON(false))
		if u.Lost > 0 {
			text += fmt.Sprintf(" lost %d", u.Lost)
		}
		return text
	case state.Loaded:
		return fmt.Sprintf("%v %s", u.Kind, u.Snapshot.JSON(false))
	case state.Failed:
		return fmt.Sprintf("%v %s", u.Kind, u.Err.AppendJSON(nil))
	case state.Applied:
		data := u.Event.AppendData(nil, false)
		name := u.Event.Kind.String()
		switch u.Event.Kind {
		case state.Custom:
			name = u.Event.Name
		case state.Delete:
		default:
			data = append(data, '}')
		}
		return strings.TrimSpace(fmt.Sprintf("%s %s", name, data))
	}
	return u.Kind.String()
}

// fold applies an update as a loop does, and checks that it is valid there.
func fold(folded map[subKey]*state.Snapshot, key subKey, u state.Update) error {
	held := folded[key]
	switch u.Kind {
	case state.Loaded:
		if held != nil {
			return fmt.Errorf("loaded twice")
		}
		folded[key] = u.Snapshot
		return nil
	case state.Failed:
		if held != nil {
			return fmt.Errorf("failed when loaded")
		}
		return nil
	case state.Reaccess:
		return nil
	}
	if held == nil {
		return fmt.Errorf("%s before loaded", describe(u))
	}
	if u.Kind == state.Synced {
		folded[key] = u.Snapshot
		return nil
	}
	var e *state.Event
	var err error
	switch ev := u.Event; ev.Kind {
	case state.Change:
		var props []res.Prop
		for _, c := range ev.Changes {
			props = append(props, res.Prop{Key: c.Key, Value: c.New})
		}
		e, err = held.Change(props)
	case state.Add:
		e, err = held.Add(ev.Index, ev.Value)
	case state.Remove:
		e, err = held.Remove(ev.Index)
	case state.Delete:
		delete(folded, key)
		return nil
	case state.Custom:
		if !ev.Next.Equal(held) {
			return fmt.Errorf("custom event at %s, but the loop has %s", ev.Next.JSON(false), held.JSON(false))
		}
		return nil
	}
	switch {
	case err != nil:
		return fmt.Errorf("%s does not apply to %s: %v", describe(u), held.JSON(false), err)
	case e == nil:
		return fmt.Errorf("%s changes nothing in %s", describe(u), held.JSON(false))
	case !e.Next.Equal(u.Event.Next):
		return fmt.Errorf("%s leads to %s, but the shard has %s", describe(u), e.Next.JSON(false), u.Event.Next.JSON(false))
	}
	folded[key] = u.Event.Next
	return nil
}

// logWriter records each log record as one line.
type logWriter struct{ h *harness }

func (l logWriter) Enabled(context.Context, slog.Level) bool { return true }
func (l logWriter) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l logWriter) WithGroup(string) slog.Handler            { return l }

func (l logWriter) Handle(_ context.Context, r slog.Record) error {
	line := r.Message
	r.Attrs(func(a slog.Attr) bool {
		line += fmt.Sprintf(" %s=%v", a.Key, a.Value)
		return true
	})
	l.h.say("logs 1 %s", line)
	return nil
}
