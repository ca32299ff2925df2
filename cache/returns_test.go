package cache

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// churn has clients subscribe to all names and leave them again, some rounds long, with a time
// without subs in between. It returns how many subscriptions NATS got, and how many it lost.
func churn(t *testing.T, opt Options, names, rounds int, gap time.Duration) (subs, unsubs int, m *Metrics) {
	h := newHarness(t, opt)
	count := func() {
		for line := range strings.Lines(h.said()) {
			switch {
			case strings.HasPrefix(line, "subscribed "):
				subs++
			case strings.HasPrefix(line, "unsubscribed "):
				unsubs++
			}
		}
	}
	ref := uint64(0)
	for range rounds {
		first := ref + 1
		for i := range names {
			ref++
			h.s.Subscribe(0, ref, fmt.Sprint("test.", i), "", nil)
		}
		h.turns()
		for i := range names {
			h.answer(fmt.Sprint("get.test.", i), "", []byte(`{"result":{"model":{"a":1}}}`), nil)
		}
		h.turns()
		for i := range names {
			delete(h.folded, subKey{0, first + uint64(i)})
			h.s.Unsubscribe(0, first+uint64(i), fmt.Sprint("test.", i), "")
		}
		h.turns()
		h.advance(gap)
		count()
	}
	h.advance(time.Hour)
	count()
	if n := h.s.metrics.Resources.Load(); n != 0 {
		t.Errorf("%d resources are left", n)
	}
	return subs, unsubs, h.s.metrics
}

// Clients that leave resources and come back cost NATS at most two subscriptions for each resource,
// however often they do, if they come back within EvictMost.
func TestReturnsCostNoSubscriptions(t *testing.T) {
	const names, rounds = 100, 20
	for _, tt := range []struct {
		gap  time.Duration
		opt  Options
		most int // subscriptions of each name
	}{
		{gap: 4900 * time.Millisecond, most: 1},
		{gap: 6 * time.Second, most: 2},
		{gap: 40 * time.Second, most: 2},
		{gap: 59 * time.Second, most: 2},
		{gap: 61 * time.Second, most: rounds}, // it would stay for too long without any use
		{gap: 40 * time.Second, opt: Options{EvictMost: -1}, most: rounds},
		{gap: time.Second, opt: Options{EvictAfter: -1}, most: rounds},
		{gap: 40 * time.Second, opt: Options{UnusedBytes: names / 2 * unusedOverhead}, most: rounds}, // memory comes first
	} {
		subs, unsubs, m := churn(t, tt.opt, names, rounds, tt.gap)
		least := tt.most * names
		if tt.opt.UnusedBytes > 0 {
			least = rounds * names / 2
		}
		if subs > tt.most*names || subs < least || unsubs != subs {
			t.Errorf("%v after each leave, %+v: %d subscriptions began and %d ended, want %d at most", tt.gap, tt.opt, subs, unsubs, tt.most*names)
		}
		if late, kept := m.LateReturns.Load(), m.Returns.Load(); tt.most <= 2 && (late != int64(tt.most-1)*names || late+kept != (rounds-1)*names) {
			t.Errorf("%v after each leave: %d returns, %d late ones", tt.gap, kept, late)
		}
	}
}

// A stay that is longer than it has to be becomes shorter again.
func TestStayShrinks(t *testing.T) {
	h := newHarness(t, Options{})
	ref := uint64(0)
	use := func(gap time.Duration) {
		ref++
		h.s.Subscribe(0, ref, "test.a", "", nil)
		h.turns()
		h.answer("get.test.a", "", []byte(`{"result":{"model":{"a":1}}}`), nil)
		h.turns()
		delete(h.folded, subKey{0, ref})
		h.s.Unsubscribe(0, ref, "test.a", "")
		h.turns()
		h.advance(gap)
	}
	use(25 * time.Second)
	for _, tt := range []struct{ gap, stay time.Duration }{
		{20 * time.Second, 50 * time.Second}, {time.Second, 40 * time.Second}, {time.Second, 20 * time.Second},
		{7 * time.Second, 10 * time.Second}, {time.Second, 10 * time.Second}, {time.Second, 5 * time.Second},
	} {
		use(0)
		if got := h.s.resources.Get("test.a").remains(); got != tt.stay {
			t.Errorf("it stays for %v, want %v", got, tt.stay)
		}
		h.advance(tt.gap)
	}
}

// A subscriber of one query keeps the subscription, so the returns of others are none.
func TestReturnsOfQueries(t *testing.T) {
	h := newHarness(t, Options{})
	h.s.Subscribe(0, 1, "test.a", "q=1", nil)
	h.s.Subscribe(0, 2, "test.a", "q=2", nil)
	h.turns()
	for _, q := range []string{"q=1", "q=2"} {
		h.answer("get.test.a", q, []byte(`{"result":{"model":{"a":1},"query":"`+q+`"}}`), nil)
	}
	h.turns()
	h.s.Unsubscribe(0, 2, "test.a", "q=2")
	h.turns()
	h.advance(6 * time.Second)
	h.s.Subscribe(0, 3, "test.a", "q=2", nil)
	h.turns()
	h.answer("get.test.a", "q=2", []byte(`{"result":{"model":{"a":1},"query":"q=2"}}`), nil)
	h.turns()
	if m := h.s.metrics; m.Returns.Load()+m.LateReturns.Load() != 0 || m.Gets.Load() != 3 {
		t.Errorf("%d returns, %d late ones, %d gets", m.Returns.Load(), m.LateReturns.Load(), m.Gets.Load())
	}
	for ref := range uint64(3) {
		delete(h.folded, subKey{0, ref + 1})
	}
	h.s.Unsubscribe(0, 1, "test.a", "q=1")
	h.s.Unsubscribe(0, 3, "test.a", "q=2")
	h.turns()
	h.advance(6 * time.Second)
	if n := h.s.metrics.Resources.Load(); n != 0 {
		t.Errorf("%d resources are left", n)
	}
}

// What a shard remembers of evicted names is bounded in number and in time.
func TestReturnsAreBounded(t *testing.T) {
	r := newReturns()
	for i := range 10 * maxReturns {
		r.note(fmt.Sprint("test.", i), 1, 2, time.Minute)
		if n := len(r.young) + len(r.old); n > 2*maxReturns {
			t.Fatalf("%d names", n)
		}
	}
	if _, ok := r.take(fmt.Sprint("test.", 10*maxReturns-1)); !ok {
		t.Error("the newest is forgotten")
	}
	if _, ok := r.take("test.0"); ok {
		t.Error("the oldest is remembered")
	}
	for i := range 3 {
		r.note("late", 1, time.Duration(i+1)*time.Hour, time.Minute)
	}
	if n := len(r.young) + len(r.old); n != 2 {
		t.Errorf("%d names after hours", n)
	}
}
