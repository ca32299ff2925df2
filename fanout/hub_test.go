package fanout

import (
	"fmt"
	"slices"
	"testing"

	"sluice/internal/res"
	"sluice/internal/state"
	"sluice/pool"
)

// recorder is a Source that records its calls.
type recorder struct {
	asked []string
	refs  map[string]uint64
}

func (r *recorder) Subscribe(ref uint64, name, query string, first func()) {
	r.asked = append(r.asked, "+"+name+"?"+query)
	r.refs[name+"?"+query] = ref
}

func (r *recorder) Refetch(name string) { r.asked = append(r.asked, "!"+name) }

func (r *recorder) Unsubscribe(ref uint64, name, query string) {
	r.asked = append(r.asked, "-"+name+"?"+query)
}

// sub is a subscriber and its outbox.
type sub struct {
	Member
	got    []string
	frames [][]byte
	on     func(call string)
}

func (s *sub) note(call string) {
	s.got = append(s.got, call)
	if s.on != nil {
		s.on(call)
	}
}

func (s *sub) Loaded() {
	if err := s.Topic().Error(); err != nil {
		s.note("failed " + err.Code)
		return
	}
	s.note("loaded")
}
func (s *sub) Event(e *state.Event, prev *state.Snapshot) {
	s.note(fmt.Sprintf("event %s after %s", eventName(e), prev.JSON(false)))
}
func (s *sub) Reaccess(why Reason) { s.note(fmt.Sprintf("reaccess %d", why)) }
func (s *sub) Script(script *Script, prev *state.Snapshot) {
	s.note(fmt.Sprintf("script of %d after %s", script.Len(), prev.JSON(false)))
}
func (s *sub) Send(f []byte) {
	s.frames = append(s.frames, f)
	s.got = append(s.got, string(f))
}

func plain(dst, m []byte) []byte { return append(dst, m...) }

const (
	current = Variant(Message)
	old120  = Variant(Message) | legacy
)

func newTestHub() (*Hub, *recorder) {
	r := &recorder{refs: map[string]uint64{}}
	return NewHub(r, Framers{Message: plain}, new(pool.Arena), new(Metrics)), r
}

func number(n int) res.Value { return res.Value{Raw: fmt.Sprint(n)} }

func model(t testing.TB, n int) *state.Snapshot {
	t.Helper()
	return state.NewModel([]res.Prop{{Key: "n", Value: number(n)}})
}

func change(t testing.TB, s *state.Snapshot, v res.Value) *state.Event {
	t.Helper()
	e, err := s.Change([]res.Prop{{Key: "n", Value: v}})
	if err != nil || e == nil {
		t.Fatal("no change", err)
	}
	return e
}

func (h *Hub) load(r *recorder, name string, s *state.Snapshot) {
	h.Apply(state.Update{Ref: r.refs[name+"?"], Kind: state.Loaded, Snapshot: s})
}

func want(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func TestTopicLife(t *testing.T) {
	h, r := newTestHub()
	var a, b sub
	h.Join(&a, &a, current, "x", "x", "", nil)
	h.Join(&b, &b, current, "x", "x", "", nil)
	want(t, "one load for two members", r.asked, "+x?")
	if found := h.Find("x", "x", ""); found != a.Topic() || found.Alive() {
		t.Error("Find does not return the loading topic, or it counts as alive")
	}
	h.load(r, "x", model(t, 1))
	want(t, "a", a.got, "loaded")
	if found := h.Find("x", "x", ""); found != a.Topic() || !found.Alive() {
		t.Error("Find does not return the loaded topic")
	}
	h.Leave(&a.Member)
	h.Leave(&a.Member)
	want(t, "still one member", r.asked, "+x?")
	h.Leave(&b.Member)
	want(t, "no member", r.asked, "+x?", "-x?")
	if h.Len() != 0 || h.metrics.Topics.Load() != 0 || h.metrics.Members.Load() != 0 {
		t.Error("the hub is not empty")
	}
}

func TestLateUpdatesDoNotReachSuccessor(t *testing.T) {
	h, r := newTestHub()
	var a sub
	h.Join(&a, &a, current, "x", "x", "", nil)
	old := r.refs["x?"]
	h.Leave(&a.Member)
	h.Join(&a, &a, current, "x", "x", "", nil)
	if r.refs["x?"] == old {
		t.Fatal("a ref is used twice")
	}
	h.Apply(state.Update{Ref: old, Kind: state.Loaded, Snapshot: model(t, 1)})
	h.Apply(state.Update{Ref: 1 << 40, Kind: state.Loaded, Snapshot: model(t, 1)})
	want(t, "a", a.got)
	h.load(r, "x", model(t, 2))
	want(t, "a", a.got, "loaded")
}

func TestFailedLoadIsForgotten(t *testing.T) {
	h, r := newTestHub()
	var a sub
	h.Join(&a, &a, current, "x", "x", "", nil)
	h.Apply(state.Update{Ref: r.refs["x?"], Kind: state.Failed, Err: res.ErrTimeout})
	want(t, "a", a.got, "failed system.timeout")
	h.Leave(&a.Member)
	h.Join(&a, &a, current, "x", "x", "", nil)
	want(t, "the hub subscribes again, without an unsubscribe", r.asked, "+x?", "+x?")
}

// TestReadyMembersShareBytes: one encoding for each variant, and the same slice for
// every client.
func TestReadyMembersShareBytes(t *testing.T) {
	h, r := newTestHub()
	var now, now2, old, old2, busy sub
	for _, m := range []struct {
		s *sub
		v Variant
	}{{&now, current}, {&now2, current}, {&old, old120}, {&old2, current}, {&busy, current}} {
		h.Join(m.s, m.s, m.v, "x", "x", "", nil)
	}
	s := model(t, 1)
	h.load(r, "x", s)
	for _, m := range []*sub{&now, &now2, &old, &old2} {
		m.SetReady(true)
		m.got = nil
	}
	old2.SetVariant(old120)
	busy.got = nil
	soft := res.Value{Kind: res.SoftReference, Raw: `{"rid":"y","soft":true}`, RID: "y"}
	h.Apply(state.Update{Ref: r.refs["x?"], Kind: state.Applied, Event: change(t, s, soft)})
	want(t, "current", now.got, `{"event":"x.change","data":{"values":{"n":{"rid":"y","soft":true}}}}`)
	want(t, "legacy", old.got, `{"event":"x.change","data":{"values":{"n":"y"}}}`)
	want(t, "not ready", busy.got, `event change after {"n":1}`)
	if &now.frames[0][0] != &now2.frames[0][0] || &old.frames[0][0] != &old2.frames[0][0] {
		t.Error("clients of one variant do not share bytes")
	}
	if n := h.metrics.Encodings.Load(); n != 2 {
		t.Errorf("%d encodings for two variants", n)
	}
}

func TestEventsThatChangeReferencesGoToTheSession(t *testing.T) {
	h, r := newTestHub()
	var a, b sub
	for _, m := range []*sub{&a, &b} {
		h.Join(m, m, current, "x", "x", "", nil)
	}
	s := model(t, 1)
	h.load(r, "x", s)
	a.SetReady(true)
	a.got, b.got = nil, nil
	a.on = func(string) { h.Leave(&b.Member) } // memberships change while the event is delivered
	e := change(t, s, res.Value{Kind: res.Reference, Raw: `{"rid":"y"}`, RID: "y"})
	h.Apply(state.Update{Ref: r.refs["x?"], Kind: state.Applied, Event: e})
	want(t, "a", a.got, `event change after {"n":1}`)
	want(t, "b has left", b.got)
	if a.Topic().Snapshot() != e.Next {
		t.Error("the topic did not apply the event")
	}
	set := []Resource{{RID: "y", Snapshot: model(t, 7)}, {RID: "z", Err: res.ErrNotFound}, {RID: "c", Snapshot: state.NewCollection([]res.Value{number(1)})}}
	f := h.Event("x", e, current, set)
	if got, want := string(f), `{"event":"x.change","data":{"values":{"n":{"rid":"y"}},"models":{"y":{"n":7}},"collections":{"c":[1]},"errors":{"z":{"code":"system.notFound","message":"Not found"}}}}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if g := h.Event("x", e, current, slices.Clone(set)); &g[0] != &f[0] {
		t.Error("the same set was encoded twice")
	}
	if g := h.Event("x", e, current, set[:1]); &g[0] == &f[0] {
		t.Error("another set got the same bytes")
	}
}

func TestDeleteEndsTheTopic(t *testing.T) {
	h, r := newTestHub()
	var a sub
	h.Join(&a, &a, current, "x", "x", "", nil)
	s := model(t, 1)
	h.load(r, "x", s)
	a.SetReady(true)
	a.got = nil
	ref := r.refs["x?"]
	h.Apply(state.Update{Ref: ref, Kind: state.Applied, Event: state.NewDelete(s)})
	h.Apply(state.Update{Ref: ref, Kind: state.Applied, Event: state.NewCustom("late", nil, s)})
	want(t, "a", a.got, `event delete after {"n":1}`)
	h.Leave(&a.Member)
	want(t, "the source has forgotten it already", r.asked, "+x?")
}

// TestSynced: a loop that missed events gets the newest state; its clients get the
// difference as events.
func TestSynced(t *testing.T) {
	h, r := newTestHub()
	var a sub
	h.Join(&a, &a, current, "x", "x", "", nil)
	h.load(r, "x", state.NewCollection([]res.Value{number(1), number(2), number(3)}))
	a.SetReady(true)
	a.got = nil
	ref := r.refs["x?"]
	h.Apply(state.Update{Ref: ref, Kind: state.Synced, Snapshot: state.NewCollection([]res.Value{number(1), number(3), number(4)})})
	want(t, "a", a.got, `{"event":"x.remove","data":{"idx":1}}`, `{"event":"x.add","data":{"idx":2,"value":4}}`)
	a.got = nil
	h.Apply(state.Update{Ref: ref, Kind: state.Synced, Snapshot: model(t, 1)})
	want(t, "another kind of resource", a.got, `event delete after [1,3,4]`)
}

func TestReaccess(t *testing.T) {
	h, r := newTestHub()
	var a, b sub
	h.Join(&a, &a, current, "x", "x", "", nil)
	h.Join(&b, &b, current, "y", "y", "q", nil)
	h.Apply(state.Update{Ref: r.refs["x?"], Kind: state.Reaccess})
	h.ResetAccess(Gap, func(name string) bool { return name == "y" })
	want(t, "a", a.got, "reaccess 0")
	want(t, "b", b.got, "reaccess 2")
}

// discard is an outbox that drops frames.
type discard struct{ n int }

func (d *discard) Send([]byte) { d.n++ }

func broadcastTo(t testing.TB, members int) (h *Hub, apply func()) {
	h, r := newTestHub()
	for range members {
		s := &sub{}
		h.Join(s, &discard{}, current, "x", "x", "", nil)
	}
	s := model(t, 1)
	h.load(r, "x", s)
	for i := range h.Find("x", "x", "").members {
		h.Find("x", "x", "").members[i].ready = true
	}
	ping := state.Update{Ref: r.refs["x?"], Kind: state.Applied, Event: state.NewCustom("ping", []byte(`{"a":1}`), s)}
	return h, func() {
		h.Apply(ping)
		h.EndTurn()
	}
}

// TestDeliveryDoesNotAllocate: the allocations for an event (its share of an arena
// chunk) do not depend on the number of subscribers.
func TestDeliveryDoesNotAllocate(t *testing.T) {
	for _, members := range []int{1, 10, 5000} {
		_, apply := broadcastTo(t, members)
		apply()
		if n := testing.AllocsPerRun(200, apply); n > 0 {
			t.Errorf("%d members: %v allocations per event", members, n)
		}
	}
}

func BenchmarkBroadcast(b *testing.B) {
	for _, members := range []int{1, 1000, 19000} {
		b.Run(fmt.Sprint(members), func(b *testing.B) {
			_, apply := broadcastTo(b, members)
			b.ReportAllocs()
			for b.Loop() {
				apply()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(members), "ns/delivery")
		})
	}
}
