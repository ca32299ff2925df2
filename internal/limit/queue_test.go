package limit

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

type queued struct {
	p      Priority
	client uint64
	n      int
}

func never0(queued) bool { return false }

// Clients take turns, whatever they ask for, and each one's requests keep their order.
func TestClientsTakeTurns(t *testing.T) {
	var q Queue[queued]
	for n := range 1000 {
		q.Push(Access, 1, queued{client: 1, n: n}, never0)
	}
	for c := uint64(2); c < 5; c++ {
		for n := range 2 {
			q.Push(Access, c, queued{client: c, n: n}, never0)
		}
	}
	var got []string
	for range 8 {
		item, _, _ := q.Pop()
		got = append(got, fmt.Sprint(item.client, ".", item.n))
	}
	want := []string{"1.0", "2.0", "3.0", "4.0", "1.1", "2.1", "3.1", "4.1"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// The most urgent goes first, and nothing starves.
func TestPriorities(t *testing.T) {
	var q Queue[queued]
	for p := range Priorities {
		for n := range 1000 {
			q.Push(p, uint64(n), queued{p: p}, never0)
		}
	}
	var counts [Priorities]int
	for range 900 {
		item, p, ok := q.Pop()
		if !ok || item.p != p {
			t.Fatalf("got priority %v for an item of %v, %v", p, item.p, ok)
		}
		counts[p]++
	}
	if counts[Call] < 600 {
		t.Errorf("%d of 900 turns for calls", counts[Call])
	}
	for p, n := range counts {
		if n < 90 {
			t.Errorf("%d of 900 turns for %v", n, Priority(p))
		}
	}
}

// Random operations against a model: nothing is lost, nothing comes twice, and each client's
// requests of a priority keep their order.
func TestQueueKeepsOrder(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 7))
		var q Queue[queued]
		model := map[[2]uint64][]int{}
		over := map[queued]bool{}
		n, size := 0, 0
		pop := func() {
			item, p, ok := q.Pop()
			if !ok {
				if size != 0 {
					t.Fatalf("seed %d: empty with %d queued", seed, size)
				}
				return
			}
			key := [2]uint64{uint64(p), item.client}
			for len(model[key]) > 0 && model[key][0] != item.n && over[queued{p, item.client, model[key][0]}] {
				model[key] = model[key][1:] // removed by a sweep
				size--
			}
			if len(model[key]) == 0 || model[key][0] != item.n {
				t.Fatalf("seed %d: got %+v, want %v", seed, item, model[key])
			}
			model[key] = model[key][1:]
			size--
		}
		for range 20000 {
			if rng.IntN(3) > 0 {
				item := queued{Priority(rng.IntN(int(Priorities))), rng.Uint64N(20), n}
				n++
				size++
				key := [2]uint64{uint64(item.p), item.client}
				model[key] = append(model[key], item.n)
				if rng.IntN(2) == 0 {
					over[item] = true
				}
				q.Push(item.p, item.client, item, func(i queued) bool { return over[i] })
			} else {
				pop()
			}
		}
		for q.Len() > 0 {
			pop()
		}
		for key, left := range model {
			for _, n := range left {
				if !over[queued{Priority(key[0]), key[1], n}] {
					t.Fatalf("seed %d: %d of client %d was lost", seed, n, key[1])
				}
			}
		}
	}
}

// The memory of a client that always has some queued does not grow with all that it ever queued.
func TestQueueKeepsItsMemory(t *testing.T) {
	var q Queue[queued]
	for n := range 100 {
		q.Push(Access, 1, queued{client: 1, n: n}, never0)
	}
	for n := range 10_000 {
		if item, _, _ := q.Pop(); item.n != n {
			t.Fatalf("popped %d, want %d", item.n, n)
		}
		q.Push(Access, 1, queued{client: 1, n: n + 100}, never0)
	}
	if room := cap(q.classes[Access].flows[1].items); room > 512 {
		t.Errorf("room for %d requests, of which 100 are queued", room)
	}
}
