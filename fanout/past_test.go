package fanout

import (
	"fmt"
	"testing"
	"time"

	"sluice/internal/overlap"
	"sluice/internal/state"
)

// What a topic keeps no longer was told: the other process, which got it a little later, does not
// tell it again.
func TestPastIsDropped(t *testing.T) {
	ours, r := newTestHub()
	theirs, r2 := newTestHub()
	now := time.Duration(0)
	ours.Now = func() time.Duration { return now }
	theirs.Now = ours.Now
	var a, b sub
	ours.Join(&a, &a, current, "x", "x", "", nil)
	theirs.Join(&b, &b, current, "x", "x", "", nil)
	snap := model(t, 1)
	ours.load(r, "x", snap)
	theirs.load(r2, "x", snap)
	Remember(ours, true)
	Remember(theirs, true)
	tell := func(h *Hub, r *recorder, name string, at time.Duration) {
		t.Helper()
		now = at
		h.Apply(state.Update{Ref: r.refs["x?"], Kind: state.Applied, Event: state.NewCustom(name, nil, snap)})
	}
	missed := func() (names []string) {
		s := Seam{Topic: a.Topic(), Theirs: b.Topic().Marks(nil, 0), Began: b.Topic().Since()}
		all, _ := s.Compare()
		for _, h := range all {
			names = append(names, h.Event.Name)
		}
		return names
	}
	const late = 10 * time.Millisecond
	tell(theirs, r2, "first", time.Second)
	tell(ours, r, "first", time.Second+late)
	want(t, "both had it", missed())
	second := time.Second + 2*overlap.Apart + late/2 // they drop the first one, and it is not old enough here
	tell(theirs, r2, "second", second)
	want(t, "they have dropped it, and the next has yet to come", missed())
	tell(ours, r, "second", second)
	want(t, "they have dropped it, and the next is here", missed())
	tell(ours, r, "third", second+late)
	want(t, "they lack the third", missed(), "third")
	for i := range mostPast { // more than is kept, within a moment
		name := "many" + string(rune('a'+i%26))
		tell(theirs, r2, name, second+time.Duration(i)*time.Microsecond)
	}
	if since := b.Topic().Since(); since > now {
		t.Errorf("nothing that comes from now on counts until %v, and it is %v", since, now)
	}
}

// TestPastOfEndedTopic: a topic that begins anew knows which custom events the one before it had.
// The other process, to which they come later, does not tell them again.
func TestPastOfEndedTopic(t *testing.T) {
	ours, r := newTestHub()
	theirs, r2 := newTestHub()
	now := time.Second
	ours.Now = func() time.Duration { return now }
	theirs.Now = ours.Now
	Remember(ours, true)
	Remember(theirs, true)
	var a, b sub
	snap := model(t, 1)
	ours.Join(&a, &a, current, "x", "x", "", nil)
	ours.load(r, "x", snap)
	join := func() {
		theirs.Join(&b, &b, current, "x", "x", "", nil)
		theirs.load(r2, "x", snap)
	}
	event := func(h *Hub, r *recorder, name string) {
		now += time.Millisecond
		h.Apply(state.Update{Ref: r.refs["x?"], Kind: state.Applied, Event: state.NewCustom(name, nil, snap)})
	}
	join()
	event(theirs, r2, "first")
	theirs.Leave(&b.Member)
	now += time.Millisecond
	join()
	event(ours, r, "first")
	event(ours, r, "second")
	s := Seam{Topic: a.Topic(), Theirs: b.Topic().Marks(nil, 0), Began: b.Topic().Since()}
	missed, ahead := s.Compare()
	if len(missed) != 1 || missed[0].Event.Name != "second" || len(ahead) > 0 {
		t.Errorf("%d missed, want the second event; %d ahead", len(missed), len(ahead))
	}
	now += pastFor
	theirs.Leave(&b.Member)
	if join(); len(theirs.gone) > 0 || len(b.Topic().Marks(nil, 0)) > 0 {
		t.Error("what is too old is kept")
	}
	for i := range mostGone + 1 {
		theirs.keepPast(&Topic{hub: theirs, key: topicKey{rid: fmt.Sprint(i)}, past: &past{all: []Happened{{sum: 1 << 8, at: now}}}})
	}
	if len(theirs.gone) != mostGone {
		t.Errorf("the pasts of %d topics are kept", len(theirs.gone))
	}
	if Remember(theirs, false); theirs.gone != nil {
		t.Error("pasts are kept for no reason")
	}
}

// TestEndedTopicMissesNothing: the other process has got the resource after an event that the topic
// before the present one told here, and has told a later one, which did not come here. Its clients
// have the state after both, so they miss neither.
func TestEndedTopicMissesNothing(t *testing.T) {
	ours, r := newTestHub()
	theirs, r2 := newTestHub()
	now := time.Second
	ours.Now = func() time.Duration { return now }
	theirs.Now = ours.Now
	Remember(ours, true)
	Remember(theirs, true)
	var a, b sub
	snap := model(t, 1)
	join := func(h *Hub, r *recorder, s *sub) {
		now += time.Millisecond
		h.Join(s, s, current, "x", "x", "", nil)
		h.load(r, "x", snap)
	}
	tell := func(h *Hub, r *recorder, name string) {
		now += time.Millisecond
		h.Apply(state.Update{Ref: r.refs["x?"], Kind: state.Applied, Event: state.NewCustom(name, nil, snap)})
	}
	join(ours, r, &a)
	join(theirs, r2, &b) // had the first before
	tell(ours, r, "first")
	tell(theirs, r2, "second")
	ours.Leave(&a.Member)
	join(ours, r, &a)
	s := Seam{Topic: a.Topic(), Theirs: b.Topic().Marks(nil, 0), Began: b.Topic().Since()}
	if missed, ahead := s.Compare(); len(missed) > 0 || len(ahead) != 1 {
		t.Errorf("missed: %v; %d ahead, want the second event", missed, len(ahead))
	}
	tell(ours, r, "third")
	if missed, _ := s.Compare(); len(missed) != 1 || missed[0].Event.Name != "third" {
		t.Errorf("missed: %v, want the third event", missed)
	}
	tell(theirs, r2, "first") // once more
	s = Seam{Topic: a.Topic(), Theirs: b.Topic().Marks(nil, 0), Began: b.Topic().Since()}
	if _, ahead := s.Compare(); len(ahead) != 1 {
		t.Errorf("%d ahead, want the second event: the first was told here by the topic before", len(ahead))
	}
}

// TestPastOfRechecks: rechecks of access count that come while a topic loads, and after a gap.
func TestPastOfRechecks(t *testing.T) {
	h, r := newTestHub()
	Remember(h, true)
	var a sub
	h.Join(&a, &a, current, "x", "x", "", nil)
	h.Apply(state.Update{Ref: r.refs["x?"], Kind: state.Reaccess})
	h.load(r, "x", model(t, 1))
	h.ResetAccess(Gap, func(string) bool { return true })
	s := Seam{Topic: a.Topic()}
	missed, _ := s.Compare()
	if len(missed) != 2 || missed[0].Why != Changed || missed[1].Why != Gap {
		t.Errorf("missed: %v", missed)
	}
}
