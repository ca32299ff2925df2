package fanout

import (
	"slices"
	"strings"
	"testing"
	"unsafe"

	"sluice/internal/res"
	"sluice/internal/state"
)

func TestLongDifferenceIsAScript(t *testing.T) {
	h, r := newTestHub()
	h.Portion = 4
	var a sub
	h.Join(&a, &a, current, "x", "x", "", nil)
	h.load(r, "x", bigCollection(3))
	values := []res.Value{number(7), number(8), {Kind: res.Reference, Raw: `{"rid":"y"}`, RID: "y"}}
	h.Apply(state.Update{Ref: r.refs["x?"], Kind: state.Synced, Snapshot: state.NewCollection(values)})
	want(t, "a", a.got, "loaded", "script of 6 after [0,1,2]")
	if got := string(a.Topic().Snapshot().JSON(false)); got != `[7,8,{"rid":"y"}]` {
		t.Errorf("the topic is at %s", got)
	}
	a.got = nil
	h.Apply(state.Update{Ref: r.refs["x?"], Kind: state.Synced, Snapshot: state.NewCollection(values[:2])})
	if len(a.got) != 1 || !strings.HasPrefix(a.got[0], "event remove") {
		t.Errorf("a short difference gives %q", a.got)
	}
}

func TestScriptPortions(t *testing.T) {
	h, _ := newTestHub()
	h.Portion = 4
	values := []res.Value{number(10), number(11), number(12), number(13), number(14), {Kind: res.Reference, Raw: `{"rid":"y"}`, RID: "y"}}
	events, err := state.Diff(bigCollection(3), state.NewCollection(values))
	if err != nil || len(events) != 9 {
		t.Fatal(len(events), err)
	}
	if h.NewScript("x", events[:4]) != nil {
		t.Error("a short difference has a script")
	}
	s := h.NewScript("x", events)
	first, end := s.Portion(0, current)
	if end != 4 || strings.Count(string(first), `{"event":"x.`) != 4 {
		t.Errorf("up to %d: %s", end, first)
	}
	again, _ := s.Portion(0, current)
	if unsafe.SliceData(first) != unsafe.SliceData(again) {
		t.Error("a portion is encoded twice")
	}
	if old, _ := s.Portion(0, old120); unsafe.SliceData(old) == unsafe.SliceData(first) {
		t.Error("both variants have the same bytes")
	}
	if f, end := s.Portion(2, current); f != nil || end != 4 {
		t.Errorf("from the middle: %d, %s", end, f)
	}
	if f, end := s.Portion(4, current); f == nil || end != 8 {
		t.Errorf("second: %d, %s", end, f)
	}
	if f, end := s.Portion(8, current); f != nil || end != 9 {
		t.Errorf("with a reference: %d, %s", end, f)
	}
	if !slices.Equal([]string{"y"}, s.Event(8).AddedRefs) || !s.End().Equal(state.NewCollection(values)) {
		t.Error("another script")
	}
}
