package fanout

import (
	"testing"

	"sluice/internal/res"
	"sluice/internal/state"
)

// TestVersionsShare: versions are charged for what they do not share with later ones, whatever the
// order in which they are kept and released.
func TestVersionsShare(t *testing.T) {
	h, r := newTestHub()
	var a sub
	h.Join(&a, &a, current, "x", "x", "", nil)
	h.load(r, "x", bigCollection(5000))
	topic := a.Topic()
	at := []*state.Snapshot{topic.Snapshot()}
	for i := range 30 {
		e, err := topic.Snapshot().Add(i*100, number(i))
		if err != nil {
			t.Fatal(err)
		}
		h.Apply(state.Update{Ref: r.refs["x?"], Kind: state.Applied, Event: e})
		at = append(at, e.Next)
	}
	m := h.metrics
	check := func(what string, least, most int, versions int) {
		t.Helper()
		bytes, shares := m.VersionBytes.Load(), m.VersionShares.Load()
		if bytes < int64(least) || bytes > int64(most) {
			t.Errorf("%s: %d bytes, want %d to %d", what, bytes, least, most)
		}
		if least, most := int64(versions*at[0].TreeBytes()), int64(versions*topic.Snapshot().TreeBytes()); shares < least || shares > most {
			t.Errorf("%s: %d bytes in shares, want %d to %d", what, shares, least, most)
		}
	}
	// Between two adjacent states a leaf and its inner nodes are copied: some 3 KiB.
	const step = 4 << 10
	tree := at[0].TreeBytes()
	check("nothing is kept", 0, 0, 0)
	var kept []*Version
	for _, i := range []int{3, 20, 10, 20, 0, 29, 30} {
		kept = append(kept, topic.Keep(at[i]))
	}
	check("seven are kept", 30*step/3, 30*step, 7)
	if kept[1] != kept[3] {
		t.Error("one state has two versions")
	}
	kept[4].Release()
	check("without the oldest", 27*step/3, 27*step, 6)
	kept[1].Release()
	check("one of two that share a state has gone", 27*step/3, 27*step, 5)
	h.Apply(state.Update{Ref: r.refs["x?"], Kind: state.Synced, Snapshot: replaced(topic.Snapshot(), bigCollection(6000))})
	check("the topic has another tree", tree, tree+tree/2, 5)
	for _, i := range []int{0, 2, 3, 5, 6} {
		kept[i].Release()
	}
	check("all have gone", 0, 0, 0)
}

// replaced returns next as the state after prev, of another tree.
func replaced(prev, next *state.Snapshot) *state.Snapshot {
	next.Replaces(prev)
	return next
}

// TestScriptCounts: a long difference is charged once while somebody keeps it, its frames too.
func TestScriptCounts(t *testing.T) {
	h, _ := newTestHub()
	h.Portion = 4
	events, err := state.Diff(bigCollection(3), state.NewCollection([]res.Value{number(10), number(11)}))
	if err != nil {
		t.Fatal(err)
	}
	s := h.NewScript("x", events)
	m := h.metrics
	check := func(bytes, shares int) {
		t.Helper()
		if b, all := m.VersionBytes.Load(), m.VersionShares.Load(); b != int64(bytes) || all != int64(shares) {
			t.Errorf("%d bytes, in shares %d; want %d, %d", b, all, bytes, shares)
		}
	}
	if s.Size() < 256*len(events) {
		t.Errorf("%d events take up %d bytes", len(events), s.Size())
	}
	frames, _ := s.Portion(0, current)
	check(0, 0)
	s.Keep()
	check(s.Size()+len(frames), s.Size())
	s.Keep()
	old, _ := s.Portion(0, old120)
	check(s.Size()+len(frames)+len(old), 2*s.Size())
	s.Release()
	s.Release()
	check(0, 0)
}
