package fanout

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"sluice/internal/res"
	"sluice/internal/state"
)

// pieces are framers whose output shows which frames belong together.
func first(dst, m []byte) []byte { return append(append(dst, '<'), m...) }
func last(dst, m []byte) []byte  { return append(append(dst, m...), '>') }

func bigCollection(n int) *state.Snapshot {
	values := make([]res.Value, n)
	for i := range values {
		values[i] = number(i)
	}
	return state.NewCollection(values)
}

func (s *sub) answer(t *testing.T, h *Hub, id int, v Variant, set []Resource) {
	t.Helper()
	s.frames, s.got = nil, nil
	h.SendSet(s, v, fmt.Appendf(nil, `{"id":%d,"result":{"rid":"x"`, id), set, true, "}}")
	text := strings.Join(s.got, "")
	if len(s.frames) == 2 {
		text = strings.TrimSuffix(strings.TrimPrefix(text, "<"), ">")
	}
	var m struct {
		ID     int
		Result struct {
			RID         string
			Collections map[string][]any
		}
	}
	if err := json.Unmarshal([]byte(text), &m); err != nil || m.ID != id || m.Result.RID != "x" || len(m.Result.Collections) != len(set) {
		t.Fatalf("%v: %.80s", err, text)
	}
	for _, r := range set {
		if got, want := len(m.Result.Collections[r.RID]), r.Snapshot.Len(); got != want {
			t.Errorf("%s has %d values, want %d", r.RID, got, want)
		}
	}
}

func TestLargeSetsAreShared(t *testing.T) {
	h, _ := newTestHub()
	h.Share(Message, first, last)
	h.framers[Deflated] = plain
	s := bigCollection(10_000)
	set := []Resource{{RID: "x", Snapshot: s}}
	var a, b, c, d, e sub
	a.answer(t, h, 1, current, set)
	h.EndTurn()
	b.answer(t, h, 22, current, set)
	if n := h.metrics.SetEncodings.Load(); n != 1 || len(a.frames) != 2 {
		t.Fatalf("%d encodings, %d frames", n, len(a.frames))
	}
	if unsafe.SliceData(a.frames[1]) != unsafe.SliceData(b.frames[1]) {
		t.Error("two clients do not share memory")
	}
	c.answer(t, h, 3, old120, set)
	next, _ := s.Add(5, number(-1))
	d.answer(t, h, 4, current, []Resource{{RID: "x", Snapshot: next.Next}})
	e.answer(t, h, 5, current, []Resource{{RID: "x", Snapshot: s}, {RID: "y", Snapshot: bigCollection(3)}})
	if n := h.metrics.SetEncodings.Load(); n != 4 {
		t.Errorf("%d encodings, want one for each set", n)
	}
	e.answer(t, h, 6, current, []Resource{{RID: "x", Snapshot: bigCollection(3)}})
	d.answer(t, h, 6, Variant(Deflated), set)
	if len(e.frames) != 1 || len(d.frames) != 1 {
		t.Error("a small set, or one of a form without a splitter, is not one frame")
	}
	a.answer(t, h, 7, current, set)
	if n := h.metrics.SetEncodings.Load(); n != 4 {
		t.Error("encoded again though an outbox still has it")
	}
}

// TestSharedSetsAreReleased: only outboxes keep shared sets and their snapshots alive.
func TestSharedSetsAreReleased(t *testing.T) {
	h, _ := newTestHub()
	h.Share(Message, first, last)
	var a sub
	func() {
		a.answer(t, h, 1, current, []Resource{{RID: "x", Snapshot: bigCollection(10_000)}})
	}()
	c := &h.shared.sets[0]
	if c.frame.Value() == nil {
		t.Fatal("the set is not cached")
	}
	a.frames, a.got = nil, nil
	runtime.GC()
	runtime.GC()
	if c.frame.Value() != nil || c.key[0].snapshot.Value() != nil {
		t.Error("the hub keeps a set alive that was sent")
	}
	runtime.KeepAlive(h)
}
