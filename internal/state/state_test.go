package state

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"

	"sluice/internal/res"
)

func num(n int) res.Value { return res.Value{Kind: res.Primitive, Raw: fmt.Sprint(n)} }

func ref(rid string) res.Value {
	return res.Value{Kind: res.Reference, Raw: `{"rid":"` + rid + `"}`, RID: rid}
}

func soft(rid string) res.Value {
	return res.Value{Kind: res.SoftReference, Raw: `{"rid":"` + rid + `","soft":true}`, RID: rid}
}

func data(raw string) res.Value { return res.Value{Kind: res.Data, Raw: `{"data":` + raw + `}`} }

// anyValue picks from few values, so that equal ones occur.
func anyValue(rnd *rand.Rand) res.Value {
	n := rnd.IntN(12)
	switch rnd.IntN(6) {
	case 0:
		return ref(fmt.Sprintf("r.%d", n))
	case 1:
		return soft(fmt.Sprintf("r.%d", n))
	case 2:
		return data(fmt.Sprintf("[%d]", n))
	}
	return num(n)
}

// check compares a snapshot with its expected content and checks the tree's invariants.
func check(t *testing.T, s *Snapshot, keys []string, vals []res.Value) {
	t.Helper()
	checkTree(t, s)
	if s.Len() != len(vals) {
		t.Fatalf("length %d, want %d", s.Len(), len(vals))
	}
	i := 0
	var refs []string
	var text []string
	for k, v := range s.All() {
		if !v.Equal(vals[i]) || s.IsModel() && k != keys[i] {
			t.Fatalf("entry %d is %q %v, want %v", i, k, v, vals[i])
		}
		if at := s.At(i); !at.Equal(v) {
			t.Fatalf("At(%d) is %v, want %v", i, at, v)
		}
		if s.IsModel() {
			if got, ok := s.Get(k); !ok || !got.Equal(v) {
				t.Fatalf("Get(%q) is %v %v, want %v", k, got, ok, v)
			}
			text = append(text, string(res.AppendString(nil, k))+":"+v.Raw)
		} else {
			text = append(text, v.Raw)
		}
		if v.Kind == res.Reference {
			refs = append(refs, v.RID)
		}
		i++
	}
	if got := slices.Collect(s.Refs()); !slices.Equal(got, refs) || s.HasRefs() != (len(refs) > 0) {
		t.Fatalf("references %v, want %v", got, refs)
	}
	want := "[" + strings.Join(text, ",") + "]"
	if s.IsModel() {
		want = "{" + strings.Join(text, ",") + "}"
	}
	if got := s.JSON(false); string(got) != want {
		t.Fatalf("JSON is %s, want %s", got, want)
	}
	if !json.Valid(s.JSON(true)) {
		t.Fatalf("legacy JSON is invalid: %s", s.JSON(true))
	}
}

func checkTree(t *testing.T, s *Snapshot) {
	t.Helper()
	root := s.tree()
	if root.in != nil && root.size() < 2 {
		t.Fatal("root with a single kid")
	}
	last, first := "", true
	var walk func(n *node, height int)
	walk = func(n *node, height int) {
		var want totals
		if size := n.size(); size > width || n != root && size < minFill {
			t.Fatalf("node of size %d", size)
		}
		if n.in == nil {
			if height != 0 {
				t.Fatalf("leaf at height %d", height)
			}
			if (n.keys != nil) != s.model {
				t.Fatal("keys do not go with the kind")
			}
			for i, v := range n.vals {
				want.add(weigh(n.key(i), v))
				if s.model && !first && n.keys[i] <= last {
					t.Fatalf("key %q after %q", n.keys[i], last)
				}
				last, first = n.key(i), false
			}
		} else {
			for i, k := range n.in.kids {
				want.add(k.totals)
				if n.in.ends[i] != want.count {
					t.Fatalf("ends %v at %d, want %d", n.in.ends, i, want.count)
				}
				if s.model && n.in.firsts[i] != k.firstKeys()[0] {
					t.Fatalf("first key %q, want %q", n.in.firsts[i], k.firstKeys()[0])
				}
				walk(k, height-1)
			}
		}
		if n.totals != want {
			t.Fatalf("totals %+v, want %+v", n.totals, want)
		}
	}
	walk(root, s.levels())
}

// checkRefs compares an event's lists of references with the multisets before and after it.
func checkRefs(t *testing.T, before *Snapshot, e *Event) {
	t.Helper()
	count := map[string]int{}
	for r := range before.Refs() {
		count[r]++
	}
	for _, r := range e.RemovedRefs {
		count[r]--
	}
	for _, r := range e.AddedRefs {
		count[r]++
	}
	for r := range e.Next.Refs() {
		count[r]--
	}
	for r, n := range count {
		if n != 0 {
			t.Fatalf("reference %s is off by %d: added %v, removed %v", r, n, e.AddedRefs, e.RemovedRefs)
		}
	}
}

// checkData checks that an event's data, parsed as JSON, matches the event.
func checkData(t *testing.T, e *Event) {
	t.Helper()
	for _, legacy := range []bool{false, true} {
		text := append(e.AppendData(nil, legacy), '}')
		if !json.Valid(text) {
			t.Fatalf("data is not JSON: %s", text)
		}
		if !legacy && !e.HasSpecial() && string(text) != string(append(e.AppendData(nil, true), '}')) {
			t.Fatalf("HasSpecial is wrong: %s", text)
		}
	}
}

func TestCollectionEditsMatchSlice(t *testing.T) {
	for seed := range uint64(12) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var vals []res.Value
		for range rnd.IntN(3000) {
			vals = append(vals, anyValue(rnd))
		}
		s := NewCollection(vals)
		start, startVals := s, slices.Clone(vals)
		check(t, s, nil, vals)
		for step := range 4000 {
			grow := step/1000%2 == int(seed%2)
			var e *Event
			var err error
			if len(vals) == 0 || rnd.IntN(10) < 3 || grow && rnd.IntN(10) < 6 {
				i, v := rnd.IntN(len(vals)+1), anyValue(rnd)
				if rnd.IntN(3) == 0 {
					i = len(vals)
				}
				e, err = s.Add(i, v)
				vals = slices.Insert(vals, i, v)
			} else {
				i := rnd.IntN(len(vals))
				if rnd.IntN(3) == 0 {
					i = 0
				}
				e, err = s.Remove(i)
				if err == nil && !e.Old.Equal(vals[i]) {
					t.Fatalf("removed %v, want %v", e.Old, vals[i])
				}
				vals = slices.Delete(vals, i, i+1)
			}
			if err != nil {
				t.Fatal(err)
			}
			if step%97 == 0 {
				check(t, e.Next, nil, vals)
				checkRefs(t, s, e)
				checkData(t, e)
			}
			s = e.Next
		}
		check(t, s, nil, vals)
		check(t, start, nil, startVals) // the old snapshot is unchanged
		for s.Len() > 0 {
			e, _ := s.Remove(rnd.IntN(s.Len()))
			s = e.Next
		}
		check(t, s, nil, nil)
	}
}

func TestModelChangesMatchMap(t *testing.T) {
	for seed := range uint64(12) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		keyspace := []int{8, 60, 2000}[seed%3]
		want := map[string]res.Value{}
		var props []res.Prop
		for range rnd.IntN(keyspace) {
			p := res.Prop{Key: fmt.Sprintf("k%d", rnd.IntN(keyspace)), Value: anyValue(rnd)}
			props = append(props, p)
			want[p.Key] = p.Value
		}
		s := NewModel(props)
		for step := range 1500 {
			props = props[:0]
			for range 1 + rnd.IntN(1+rnd.IntN(1+rnd.IntN(200))) {
				v := anyValue(rnd)
				if rnd.IntN(3) == 0 || step > 1200 {
					v = res.DeleteValue
				}
				props = append(props, res.Prop{Key: fmt.Sprintf("k%d", rnd.IntN(keyspace)), Value: v})
			}
			after := map[string]res.Value{}
			for _, p := range props {
				after[p.Key] = p.Value
			}
			real := 0
			for k, v := range after {
				if old, had := want[k]; had != (v.Kind != res.Delete) || had && !old.Equal(v) {
					real++
				}
			}
			e, err := s.Change(props)
			if err != nil {
				t.Fatal(err)
			}
			if (e == nil) != (real == 0) {
				t.Fatalf("event %v, but %d real changes", e, real)
			}
			if e == nil {
				continue
			}
			if len(e.Changes) != real {
				t.Fatalf("%d changes, want %d", len(e.Changes), real)
			}
			for _, c := range e.Changes {
				if old, had := want[c.Key]; had != c.HadOld || had && !old.Equal(c.Old) || !c.New.Equal(after[c.Key]) {
					t.Fatalf("change %+v, old value %v", c, old)
				}
				if c.New.Kind == res.Delete {
					delete(want, c.Key)
				} else {
					want[c.Key] = c.New
				}
			}
			if step%31 == 0 {
				keys := make([]string, 0, len(want))
				for k := range want {
					keys = append(keys, k)
				}
				sort.Strings(keys)
				vals := make([]res.Value, len(keys))
				for i, k := range keys {
					vals[i] = want[k]
				}
				check(t, e.Next, keys, vals)
				checkRefs(t, s, e)
				checkData(t, e)
			}
			s = e.Next
		}
	}
}

func TestEditErrors(t *testing.T) {
	c, m := NewCollection([]res.Value{num(1)}), NewModel([]res.Prop{{Key: "a", Value: num(1)}})
	for name, err := range map[string]error{
		"change of a collection": second(c.Change(nil)),
		"add to a model":         second(m.Add(0, num(1))),
		"remove from a model":    second(m.Remove(0)),
		"diff of both":           second(Diff(c, m)),
	} {
		if err != ErrWrongType {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, err := range map[string]error{
		"add before the start":    second(c.Add(-1, num(1))),
		"add behind the end":      second(c.Add(2, num(1))),
		"remove before the start": second(c.Remove(-1)),
		"remove behind the end":   second(c.Remove(1)),
	} {
		if err != ErrIndex {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, ok := c.Get(""); ok {
		t.Error("a collection has a property")
	}
}

func second[T any](_ T, err error) error { return err }

func TestModelOfRepeatedAndDeletedKeys(t *testing.T) {
	s := NewModel([]res.Prop{{Key: "b", Value: num(1)}, {Key: "a", Value: num(2)}, {Key: "b", Value: num(3)},
		{Key: "c", Value: num(4)}, {Key: "c", Value: res.DeleteValue}})
	if got := string(s.JSON(false)); got != `{"a":2,"b":3}` {
		t.Fatal(got)
	}
	e, err := s.Change([]res.Prop{{Key: "b", Value: num(9)}, {Key: "b", Value: num(3)}})
	if e != nil || err != nil {
		t.Fatalf("a change back is an event: %+v %v", e, err)
	}
}

func TestJSONForms(t *testing.T) {
	s := NewCollection([]res.Value{num(1), ref("a"), soft("b"), data("[2]")})
	if got := string(s.JSON(false)); got != `[1,{"rid":"a"},{"rid":"b","soft":true},{"data":[2]}]` {
		t.Error(got)
	}
	if got := string(s.JSON(true)); got != `[1,{"rid":"a"},"b","[Data]"]` {
		t.Error(got)
	}
	plain := NewModel([]res.Prop{{Key: `a"b`, Value: ref("a")}})
	if a, b := plain.JSON(false), plain.JSON(true); &a[0] != &b[0] {
		t.Error("equal forms are encoded twice")
	}
	if got := string(plain.JSON(false)); got != `{"a\"b":{"rid":"a"}}` {
		t.Error(got)
	}
	if got := string(NewModel(nil).JSON(false)) + string(NewCollection(nil).JSON(true)); got != "{}[]" {
		t.Error(got)
	}
}

func TestJSONIsSharedByConcurrentReaders(t *testing.T) {
	vals := make([]res.Value, 5000)
	for i := range vals {
		vals[i] = num(i)
	}
	s := NewCollection(vals)
	texts := make([][]byte, 8)
	var wg sync.WaitGroup
	for i := range texts {
		wg.Go(func() { texts[i] = s.JSON(false) })
	}
	wg.Wait()
	for _, text := range texts {
		if &text[0] != &texts[0][0] {
			t.Fatal("two texts of one version")
		}
	}
	if n := testing.AllocsPerRun(100, func() { s.JSON(false) }); n != 0 {
		t.Fatalf("%v allocations for a text that is there", n)
	}
}

func TestEventData(t *testing.T) {
	m := NewModel([]res.Prop{{Key: "a", Value: num(1)}, {Key: "b", Value: num(2)}})
	change, _ := m.Change([]res.Prop{{Key: "c", Value: soft("x")}, {Key: "a", Value: res.DeleteValue}, {Key: "b", Value: num(2)}})
	c := NewCollection([]res.Value{num(1), ref("y")})
	add, _ := c.Add(2, data("{}"))
	remove, _ := c.Remove(1)
	for _, test := range []struct {
		e               *Event
		current, legacy string
	}{
		{change, `{"values":{"a":{"action":"delete"},"c":{"rid":"x","soft":true}}`, `{"values":{"a":{"action":"delete"},"c":"x"}`},
		{add, `{"idx":2,"value":{"data":{}}`, `{"idx":2,"value":"[Data]"`},
		{remove, `{"idx":1`, `{"idx":1`},
		{NewCustom("foo", []byte(`[1]`), c), `[1]`, `[1]`},
		{NewCustom("foo", nil, c), ``, ``},
		{NewDelete(c), ``, ``},
	} {
		if got := string(test.e.AppendData(nil, false)); got != test.current {
			t.Errorf("%v: %s, want %s", test.e.Kind, got, test.current)
		}
		if got := string(test.e.AppendData(nil, true)); got != test.legacy {
			t.Errorf("%v: %s, want %s", test.e.Kind, got, test.legacy)
		}
	}
	if got := remove.RemovedRefs; !slices.Equal(got, []string{"y"}) || remove.AddedRefs != nil {
		t.Errorf("references of a remove: %v", got)
	}
}
