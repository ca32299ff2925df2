package fanout

import (
	"slices"
	"strings"
	"testing"

	"sluice/internal/state"
)

// bomber is a subscriber that panics when a call begins with bomb.
type bomber struct {
	sub
	bomb string
}

func (b *bomber) at(call string) {
	if bomb := b.bomb; bomb != "" && strings.HasPrefix(call, bomb) {
		b.bomb = ""
		panic("bomb: " + bomb)
	}
}

func (b *bomber) Send(f []byte) { b.at("send"); b.sub.Send(f) }
func (b *bomber) Loaded()       { b.at("loaded"); b.sub.Loaded() }
func (b *bomber) Event(e *state.Event, prev *state.Snapshot) {
	b.at("event")
	b.sub.Event(e, prev)
}
func (b *bomber) Reaccess(why Reason)                    { b.at("reaccess"); b.sub.Reaccess(why) }
func (b *bomber) Script(s *Script, prev *state.Snapshot) { b.at("script"); b.sub.Script(s, prev) }

// contained runs f as a loop does: after each panic the failing subscriber leaves and the hub
// resumes.
func contained(h *Hub, f func()) (blamed []Subscriber) {
	for {
		if func() (ok bool) {
			defer func() { _ = recover() }()
			f()
			return true
		}() {
			return blamed
		}
		if s := h.Mend(); s != nil {
			blamed = append(blamed, s)
			h.Leave(&s.(*bomber).Member)
		}
		f = h.Resume
	}
}

func fiveBombers(t *testing.T) (*Hub, *recorder, []*bomber) {
	h, r := newTestHub()
	var subs []*bomber
	for range 5 {
		b := &bomber{}
		h.Join(b, b, current, "x", "x", "", nil)
		subs = append(subs, b)
	}
	h.load(r, "x", bigCollection(2))
	for _, b := range subs {
		b.SetReady(true)
		b.got = nil
	}
	return h, r, subs
}

// TestPanicOfSubscriber: after a subscriber's panic, all others get each update exactly once.
func TestPanicOfSubscriber(t *testing.T) {
	add := func(h *Hub) *state.Event {
		e, err := h.Find("x", "x", "").snap.Add(0, number(7))
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	for _, tc := range []struct {
		bomb, want string
		ready      bool
		do         func(h *Hub, ref uint64)
	}{
		{"send", `{"event":"x.add","data":{"idx":0,"value":7}}`, true, func(h *Hub, ref uint64) {
			h.Apply(state.Update{Ref: ref, Kind: state.Applied, Event: add(h)})
		}},
		{"event", "event add after [0,1]", false, func(h *Hub, ref uint64) {
			h.Apply(state.Update{Ref: ref, Kind: state.Applied, Event: add(h)})
		}},
		{"event", "event delete after [0,1]", true, func(h *Hub, ref uint64) {
			h.Apply(state.Update{Ref: ref, Kind: state.Applied, Event: state.NewDelete(h.Find("x", "x", "").snap)})
		}},
		{"reaccess", "reaccess 1", true, func(h *Hub, _ uint64) { h.ResetAccess(Reset, func(string) bool { return true }) }},
		{"send", `{"event":"x.remove","data":{"idx":1}} {"event":"x.remove","data":{"idx":0}}`, true, func(h *Hub, ref uint64) {
			h.Apply(state.Update{Ref: ref, Kind: state.Synced, Snapshot: bigCollection(0)})
		}},
	} {
		for at := range 5 {
			h, r, subs := fiveBombers(t)
			subs[at].bomb = tc.bomb
			for _, b := range subs {
				b.SetReady(tc.ready)
			}
			ref := r.refs["x?"]
			blamed := contained(h, func() { tc.do(h, ref) })
			if len(blamed) != 1 || blamed[0] != subs[at] {
				t.Fatalf("%s at %d: %d subscribers blamed", tc.bomb, at, len(blamed))
			}
			for i, b := range subs {
				if got := strings.Join(b.got, " "); i != at && got != tc.want {
					t.Errorf("%s at %d: %d got %q, want %q", tc.bomb, at, i, got, tc.want)
				}
			}
			if h.at.topic != nil || h.resets != nil {
				t.Error("the fan-out is not complete")
			}
		}
	}
}

// TestPanicOfEncoding: an event that cannot be encoded is no subscriber's fault. All get the
// difference, and the hub refetches the resource.
func TestPanicOfEncoding(t *testing.T) {
	h, r, subs := fiveBombers(t)
	bombs := 1
	h.framers[Message] = func(dst, m []byte) []byte {
		if bombs--; bombs == 0 {
			panic("bomb: frame")
		}
		return plain(dst, m)
	}
	e, err := h.Find("x", "x", "").snap.Add(0, number(7))
	if err != nil {
		t.Fatal(err)
	}
	subs[3].SetReady(false)
	blamed := contained(h, func() { h.Apply(state.Update{Ref: r.refs["x?"], Kind: state.Applied, Event: e}) })
	if len(blamed) != 0 {
		t.Errorf("%d subscribers blamed", len(blamed))
	}
	for i, b := range subs {
		want := "script of 1 after [0,1]"
		if i == 3 {
			want = "event add after [0,1]"
		}
		if got := strings.Join(b.got, " "); got != want {
			t.Errorf("%d got %q, want %q", i, got, want)
		}
	}
	if !slices.Contains(r.asked, "!x") {
		t.Errorf("asked: %q", r.asked)
	}
}

// TestShardStartsOver: loaded topics follow a shard that starts over with a resource, or abandons
// it.
func TestShardStartsOver(t *testing.T) {
	h, r, subs := fiveBombers(t)
	h.Apply(state.Update{Ref: r.refs["x?"], Kind: state.Loaded, Snapshot: bigCollection(3)})
	if got := strings.Join(subs[0].got, " "); got != `{"event":"x.add","data":{"idx":2,"value":2}}` {
		t.Errorf("got %q", got)
	}
	subs[0].got = nil
	h.Apply(state.Update{Ref: r.refs["x?"], Kind: state.Failed})
	if got := strings.Join(subs[0].got, " "); got != "event delete after [0,1,2]" {
		t.Errorf("got %q", got)
	}
	late := &bomber{}
	h.Join(late, late, current, "y", "y", "", nil)
	h.Apply(state.Update{Ref: r.refs["y?"], Kind: state.Synced, Snapshot: bigCollection(1)})
	if got := strings.Join(late.got, " "); got != "loaded" {
		t.Errorf("got %q", got)
	}
}
