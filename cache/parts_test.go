package cache

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"sluice/internal/res"
)

func TestIndexFindsWhatPatternsMatch(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	part := func(wild string) string {
		if wild != "" && rnd.IntN(3) == 0 {
			return wild
		}
		if rnd.IntN(4) == 0 {
			return fmt.Sprint("n", rnd.IntN(40)) // enough kids for an index
		}
		return string("abc"[rnd.IntN(3)])
	}
	join := func(wild string) string {
		parts := make([]string, 1+rnd.IntN(4))
		for i := range parts {
			parts[i] = part(wild)
		}
		if wild != "" && rnd.IntN(3) == 0 {
			parts[len(parts)-1] = ">"
		}
		return strings.Join(parts, ".")
	}
	var x index
	names := map[string]*resource{}
	for range 400 {
		for range 20 {
			name := join("")
			if r := names[name]; r == nil {
				r = &resource{name: name}
				names[name] = r
				x.add(r)
			} else if rnd.IntN(2) == 0 {
				delete(names, name)
				x.remove(name)
			}
		}
		text := join("*")
		p, ok := res.ParsePattern(text)
		if !ok {
			t.Fatalf("bad pattern %s", text)
		}
		var want, got []string
		for name := range names {
			if p.Match(name) {
				want = append(want, name)
			}
		}
		x.match(text, func(r *resource) { got = append(got, r.name) })
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Fatalf("%s finds %v, want %v", text, got, want)
		}
	}
	x.remove("not.there")
	for name := range names {
		x.remove(name)
	}
	if !x.root.empty() {
		t.Fatal("nodes are left in an empty index")
	}
}

func TestSubsFindEach(t *testing.T) {
	rnd := rand.New(rand.NewPCG(2, 1))
	var u subs
	have := map[subKey]*sub{}
	for range 20_000 {
		key := subKey{rnd.IntN(3), uint64(rnd.IntN(60))}
		if sb := u.find(key.loop, key.ref); sb != have[key] {
			t.Fatalf("%v is %p, want %p", key, sb, have[key])
		}
		switch sb := have[key]; {
		case sb == nil && rnd.IntN(80) >= len(have)/2:
			sb = &sub{loop: int32(key.loop), ref: key.ref}
			have[key] = sb
			u.add(sb)
		case sb != nil:
			delete(have, key)
			u.remove(sb)
		}
		if len(u.list) != len(have) {
			t.Fatalf("%d subs, want %d", len(u.list), len(have))
		}
	}
}

func TestLossLogForgetsNamesBeyondItsBound(t *testing.T) {
	var l lossLog
	if l.drop("a", false) {
		t.Fatal("an event was dropped although there was room")
	}
	for i := range maxLost {
		if !l.drop(fmt.Sprint(i), true) {
			t.Fatal("an event was kept although the mailbox was full")
		}
	}
	if l.drop("a", false) || !l.drop("0", false) {
		t.Fatal("an event of a name without losses was dropped")
	}
	if !l.drop("a", true) || !l.drop("b", false) {
		t.Fatal("above the bound every name must count as lost")
	}
	if names, all := l.take(); names != nil || !all {
		t.Fatalf("%d names, all: %v", len(names), all)
	}
	if l.drop("b", false) {
		t.Fatal("an event was dropped after the log was taken")
	}
}

func TestLossOfEverything(t *testing.T) {
	h := newHarness(t, Options{MailboxLimit: 4})
	for i := range uint64(3) {
		h.s.Subscribe(0, i, fmt.Sprint("n.", i), "", nil)
		h.turns()
		h.answer(fmt.Sprint("get.n.", i), "", []byte(`{"result":{"model":{}}}`), nil)
		h.turns()
	}
	h.said()
	for i := range maxLost + 10 {
		h.s.Event(fmt.Sprint("x.", i), "change", nil, 0)
	}
	h.turns()
	if len(h.asked) != 3 {
		t.Fatalf("%d resources are refetched, want all 3:\n%s", len(h.asked), h.said())
	}
}

func TestOverlongNamesFail(t *testing.T) {
	h := newHarness(t, Options{})
	h.s.Subscribe(0, 1, strings.Repeat("a", maxName+1), "", nil)
	h.turns()
	if got, want := h.said(), `loop 0 < 1 failed {"code":"system.subjectTooLong","message":"Subject too long"}`+"\n"; got != want {
		t.Fatal(got)
	}
}

func TestDeprecationsAreBounded(t *testing.T) {
	h := newHarness(t, Options{})
	for i := range maxDeprecated + 10 {
		h.s.deprecate(fmt.Sprint(i), "things")
	}
	if len(h.s.deprecated) != maxDeprecated {
		t.Fatalf("%d names are remembered", len(h.s.deprecated))
	}
}

// An entry with many subs has an index, which must stay correct through merge and delete.
func TestManySubsOnOneEntry(t *testing.T) {
	h := newHarness(t, Options{})
	for i := range uint64(100) {
		h.s.Subscribe(int(i%2), i, "n", fmt.Sprintf("q=%d", i%5), nil)
	}
	h.turns()
	for i := range 5 {
		h.answer("get.n", fmt.Sprintf("q=%d", i), []byte(`{"result":{"collection":[],"query":"q=0"}}`), nil)
	}
	h.turns()
	for i := range uint64(100) {
		if i%3 > 0 {
			h.s.Unsubscribe(int(i%2), i, "n", fmt.Sprintf("q=%d", i%5))
		}
	}
	h.turns()
	if n := h.s.metrics.Subscriptions.Load(); n != 34 || h.s.metrics.Entries.Load() != 1 {
		t.Fatalf("%d subs of %d entries", n, h.s.metrics.Entries.Load())
	}
	h.said()
	h.s.Event("n", "reaccess", nil, 0)
	h.turns()
	if n := strings.Count(h.said(), "reaccess"); n != 34 {
		t.Fatalf("%d subs got the update", n)
	}
}

// TestDefers: what no get brings, and waits for the replies to a query event.
func TestDefers(t *testing.T) {
	for event, want := range map[string]bool{"reaccess": true, "custom": true, "change": false, "delete": false, "query": false} {
		h := newHarness(t, Options{})
		h.s.Subscribe(0, 1, "test.m", "q", nil)
		h.turns()
		h.answer("get.test.m", "q", []byte(`{"result":{"model":{"v":0},"query":"q"}}`), nil)
		h.s.Event("test.m", "query", []byte(`{"subject":"_Q.1"}`), 0)
		h.turns()
		if h.s.Defers("test.m") || h.s.Defers("test.n") {
			t.Errorf("%s: deferred before it came", event)
		}
		h.s.Event("test.m", event, []byte(`{"values":{"v":1},"subject":"_Q.2"}`), 0)
		h.turns()
		if got := h.s.Defers("test.m"); got != want {
			t.Errorf("%s: deferred: %v, want %v", event, got, want)
		}
		h.answer("_Q.1", "q", []byte(`{"result":{"events":[]}}`), nil)
		h.turns()
		if h.s.Defers("test.m") {
			t.Errorf("%s: deferred after the replies", event)
		}
	}
}

// TestDefersRecheck: a recheck of access follows events that were dropped.
func TestDefersRecheck(t *testing.T) {
	h := newHarness(t, Options{LockedLimit: 1})
	h.s.Subscribe(0, 1, "test.m", "q", nil)
	h.turns()
	h.answer("get.test.m", "q", []byte(`{"result":{"model":{"v":0},"query":"q"}}`), nil)
	h.s.Event("test.m", "query", []byte(`{"subject":"_Q.1"}`), 0)
	for range 2 {
		h.s.Event("test.m", "change", []byte(`{"values":{"v":1}}`), 0)
	}
	h.turns()
	if !h.s.Defers("test.m") {
		t.Error("nothing is deferred")
	}
	h.said()
	h.answer("_Q.1", "q", []byte(`{"result":{"events":[]}}`), nil)
	h.turns()
	if said := h.said(); h.s.Defers("test.m") || !strings.Contains(said, "reaccess") {
		t.Errorf("after the replies: %s", said)
	}
}
