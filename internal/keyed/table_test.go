package keyed

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

type thing struct{ key string }

func (t *thing) Key() string { return t.key }

// A table does what a map does, in any order of calls, while it grows and shrinks.
func TestTable(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var table Table[*thing]
		model := make(map[string]*thing)
		most := []int{4, 9, 40, 500}[seed%4]
		for range 5000 {
			key := fmt.Sprint("key.", rnd.IntN(2*most))
			got := table.Get(key)
			if got != model[key] {
				t.Fatalf("seed %d: Get(%q) = %v, want %v", seed, key, got, model[key])
			}
			switch {
			case got != nil && rnd.IntN(2) == 0:
				if table.Remove(&thing{key}) {
					t.Fatalf("seed %d: an item that is not in the table was removed", seed)
				}
				if !table.Remove(got) {
					t.Fatalf("seed %d: %q was not removed", seed, key)
				}
				delete(model, key)
			case got == nil && len(model) < most:
				model[key] = &thing{key}
				table.Put(model[key])
			}
			if table.Len() != len(model) {
				t.Fatalf("seed %d: %d items, want %d", seed, table.Len(), len(model))
			}
		}
		for _, item := range table.List() {
			if table.Get(item.key) != item {
				t.Fatalf("seed %d: %q is listed and not found", seed, item.key)
			}
			delete(model, item.key)
		}
		if len(model) > 0 {
			t.Fatalf("seed %d: not listed: %v", seed, model)
		}
	}
}

// The order is that in which items came; the last takes the place of one that is removed.
func TestTableOrder(t *testing.T) {
	var table Table[*thing]
	for i := range 20 {
		table.Put(&thing{fmt.Sprint(i)})
	}
	table.Remove(table.Get("3"))
	want := "0 1 2 19 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 "
	got := ""
	for _, item := range table.List() {
		got += item.key + " "
	}
	if got != want {
		t.Errorf("order %s, want %s", got, want)
	}
}

// An empty table has no memory left.
func TestTableEmpty(t *testing.T) {
	var table Table[*thing]
	for i := range 100 {
		table.Put(&thing{fmt.Sprint(i)})
	}
	for table.Len() > 0 {
		table.Remove(table.List()[0])
	}
	if table.index != nil || table.list != nil {
		t.Error("an empty table keeps its memory")
	}
	if table.Get("1") != nil || table.Remove(&thing{"1"}) {
		t.Error("an empty table has an item")
	}
}

func BenchmarkTable(b *testing.B) {
	var table Table[*thing]
	for i := range 5000 {
		table.Put(&thing{fmt.Sprint("resource.", i)})
	}
	for i := range b.N {
		table.Get(table.list[(i*7)%5000].key)
	}
}
