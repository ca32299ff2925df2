//go:build !invariants

package cache

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"sluice/internal/owner"
)

// faulty is a harness whose shard has a collection with a sub on each of two loops, and another
// resource.
func faulty(t *testing.T, change func(*Options)) (*harness, *owner.Faults) {
	faults := owner.NewFaults(owner.NewManualClock(), slog.New(slog.DiscardHandler))
	opt := Options{Faults: faults}
	if change != nil {
		change(&opt)
	}
	h := newHarness(t, opt)
	h.s.Subscribe(0, 1, "a", "", nil)
	h.s.Subscribe(1, 1, "a", "", nil)
	h.s.Subscribe(0, 2, "b", "", nil)
	h.turns()
	h.answerAll("a", `{"result":{"collection":[1,2]}}`)
	h.answerAll("b", `{"result":{"model":{"n":1}}}`)
	return h, faults
}

func (h *harness) answerAll(name, payload string) {
	h.turns()
	for h.answer("get."+name, "", []byte(payload), nil) {
		h.turns()
	}
}

// once returns a function that panics at the n-th call of what.
func once(what string, n int) func(string) {
	return func(happens string) {
		if happens == what {
			if n--; n == 0 {
				panic("bomb: " + what)
			}
		}
	}
}

// whole checks that every sub has the service's state, that the shard is consistent and that
// nothing is pending.
func (h *harness) whole(a, b string) {
	h.t.Helper()
	h.bomb = nil
	h.answerAll("a", `{"result":{"collection":`+a+`}}`)
	h.answerAll("b", `{"result":{"model":`+b+`}}`)
	h.advance(time.Second)
	h.answerAll("a", `{"result":{"collection":`+a+`}}`)
	h.answerAll("b", `{"result":{"model":`+b+`}}`)
	h.advance(100 * time.Millisecond)
	for key, want := range map[subKey]string{{0, 1}: a, {1, 1}: a, {0, 2}: b} {
		if s := h.folded[key]; s == nil || string(s.JSON(false)) != want {
			got := "nothing"
			if s != nil {
				got = string(s.JSON(false))
			}
			h.t.Errorf("loop %d, ref %d is at %s, want %s\n%s", key.loop, key.ref, got, want, h.said())
		}
	}
	h.s.check()
	if n := h.s.Pending(); n != 0 {
		h.t.Errorf("%d messages are pending", n)
	}
	m := h.s.metrics
	if m.Entries.Load() != 2 || m.Resources.Load() != 2 || m.Subscriptions.Load() != 3 || m.Behind.Load() != 0 {
		h.t.Errorf("counts: %d entries, %d resources, %d subscriptions, %d behind", m.Entries.Load(), m.Resources.Load(), m.Subscriptions.Load(), m.Behind.Load())
	}
}

// After a panic in any step of an event, a reset, a timer or the end of a turn, all loops get the
// service's state. All other resources are unaffected.
func TestPanicsAreContained(t *testing.T) {
	for _, tc := range []struct {
		name, at string
		n        int
		do       func(h *harness)
		a, b     string
	}{
		{"before the first loop has an event", "post applied", 1, func(h *harness) { h.s.Event("a", "add", []byte(`{"idx":0,"value":0}`), 0) }, "[0,1,2]", `{"n":1}`},
		{"between two loops", "post applied", 2, func(h *harness) { h.s.Event("a", "add", []byte(`{"idx":0,"value":0}`), 0) }, "[0,1,2]", `{"n":1}`},
		{"messages follow", "post applied", 2, func(h *harness) {
			h.s.Event("a", "remove", []byte(`{"idx":0}`), 0)
			h.s.Event("a", "remove", []byte(`{"idx":0}`), 0)
			h.s.Event("b", "change", []byte(`{"values":{"n":2}}`), 0)
		}, "[]", `{"n":2}`},
		{"a difference", "post applied", 2, func(h *harness) {
			h.s.ResetAll()
			h.answerAll("a", `{"result":{"collection":[5,6,7]}}`)
		}, "[5,6,7]", `{"n":1}`},
		{"in the middle of a sweep", "request", 1, func(h *harness) { h.s.ResetAll() }, "[3]", `{"n":3}`},
		{"access", "post reaccess", 1, func(h *harness) { h.s.Event("a", "reaccess", nil, 0) }, "[1,2]", `{"n":1}`},
		{"what a turn has asked for is sent", "flush", 1, func(h *harness) { h.s.ResetAll() }, "[3]", `{"n":3}`},
		{"a loop is brought up to date", "post synced", 1, func(h *harness) {
			h.load[1] = 1 << 20
			h.s.Event("a", "add", []byte(`{"idx":0,"value":0}`), 0)
			h.turns()
			h.load[1] = 0
			h.advance(time.Second)
		}, "[0,1,2]", `{"n":1}`},
		{"again and again", "post applied", 1, func(h *harness) {
			for range 5 {
				h.bomb = once("post applied", 1)
				h.s.Event("a", "add", []byte(`{"idx":0,"value":0}`), 0)
				h.turns()
				h.answerAll("a", `{"result":{"collection":[4]}}`)
				h.advance(time.Minute)
				h.answerAll("a", `{"result":{"collection":[4]}}`)
			}
		}, "[4]", `{"n":1}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h, faults := faulty(t, nil)
			h.bomb = once(tc.at, tc.n)
			tc.do(h)
			h.turns()
			if faults.Count(owner.Shard) == 0 {
				t.Fatal("no panic")
			}
			h.whole(tc.a, tc.b)
		})
	}
}

// A loop that subscribes while the shard panics gets the resource or an error.
func TestPanicsWhileSubscribing(t *testing.T) {
	for _, at := range []string{"subscribe", "request", "post loaded"} {
		h, faults := faulty(t, nil)
		h.bomb = once(at, 1)
		h.said()
		h.s.Subscribe(1, 7, "c", "q", nil)
		h.turns()
		h.answerAll("c", `{"result":{"model":{"m":1}}}`)
		h.advance(time.Second)
		h.answerAll("c", `{"result":{"model":{"m":1}}}`)
		said := h.said()
		served, failed := strings.Contains(said, `loop 1 < 7 loaded {"m":1}`) || strings.Contains(said, `loop 1 < 7 synced {"m":1}`), strings.Contains(said, "loop 1 < 7 failed")
		if faults.Count(owner.Shard) != 1 || served == failed {
			t.Errorf("%s: served %v, failed %v, %d panics\n%s", at, served, failed, faults.Count(owner.Shard), said)
		}
		h.s.check()
		h.advance(time.Minute)
	}
}

// A resource whose reply always causes a panic fails after some retries; others are unaffected.
func TestPanicsForEver(t *testing.T) {
	h, faults := faulty(t, nil)
	h.bomb = func(what string) {
		if what == "post loaded" || what == "post synced" {
			panic("always")
		}
	}
	h.s.Subscribe(1, 7, "c", "", nil)
	for range 20 {
		h.answerAll("c", `{"result":{"model":{"m":1}}}`)
		h.advance(time.Minute)
	}
	if n := faults.Count(owner.Shard); n < 3 || n > 100 {
		t.Errorf("%d panics", n)
	}
	h.bomb = nil
	h.s.Event("b", "change", []byte(`{"values":{"n":2}}`), 0)
	h.turns()
	if got := string(h.folded[subKey{0, 2}].JSON(false)); got != `{"n":2}` {
		t.Errorf("b is at %s", got)
	}
}

// A panic between the grant of a slot of the reset throttle and the request gives the slot back.
func TestPanicWithASlot(t *testing.T) {
	limit := owner.NewThrottle(1)
	h, faults := faulty(t, func(o *Options) { o.ResetThrottle = limit })
	h.bomb = once("request", 1)
	h.s.ResetAll()
	h.turns()
	if n := faults.Count(owner.Shard); n != 1 {
		t.Fatalf("%d panics", n)
	}
	h.whole("[5]", `{"n":5}`)
	granted := false
	limit.Acquire(func() { granted = true })
	if !granted || limit.Waiting() != 0 {
		t.Errorf("a slot is lost, %d wait", limit.Waiting())
	}
}
