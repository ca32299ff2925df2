package state

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"sluice/internal/res"
)

var sizes = []int{100, 100_000}

func bigModel(size int) *Snapshot {
	props := make([]res.Prop, size)
	for i := range props {
		props[i] = res.Prop{Key: fmt.Sprintf("key%08d", i), Value: num(i)}
	}
	return NewModel(props)
}

func bigCollection(size int) *Snapshot { return NewCollection(bigValues(size)) }

func bigValues(size int) []res.Value {
	vals := make([]res.Value, size)
	for i := range vals {
		vals[i] = num(i)
	}
	return vals
}

func BenchmarkChange(b *testing.B) {
	for _, size := range sizes {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s := bigModel(size)
			props := []res.Prop{{Key: fmt.Sprintf("key%08d", size/2)}}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				props[0].Value = num(size + i%2)
				e, _ := s.Change(props)
				s = e.Next
			}
		})
	}
}

func BenchmarkAdd(b *testing.B) {
	for _, size := range sizes {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s, v := bigCollection(size), num(0)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Add(size/2, v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRemove(b *testing.B) {
	for _, size := range sizes {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s := bigCollection(size)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Remove(size / 2); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDiff(b *testing.B) {
	for _, size := range sizes {
		edited := bigCollection(size)
		for i := range 3 {
			e, _ := edited.Add((i+1)*size/4, num(-1))
			edited = e.Next
			e, _ = edited.Remove((i*2 + 1) * size / 8)
			edited = e.Next
		}
		fresh := func(s *Snapshot) *Snapshot {
			var vals []res.Value
			for _, v := range s.All() {
				vals = append(vals, v)
			}
			return NewCollection(vals)
		}
		a := bigCollection(size)
		shared := a
		for i := range 3 {
			e, _ := shared.Add((i+1)*size/4, num(-1))
			e, _ = e.Next.Remove((i*2 + 1) * size / 8)
			shared = e.Next
		}
		model := bigModel(size)
		e, _ := model.Change([]res.Prop{{Key: "key00000001", Value: num(-1)}, {Key: "x", Value: num(-1)}})
		for _, c := range []struct {
			name string
			a, b *Snapshot
		}{
			{"collection, 6 edits, shared", a, shared},
			{"collection, 6 edits, nothing shared", a, fresh(edited)},
			{"collection, equal, nothing shared", a, fresh(a)},
			{"model, 2 changes, shared", model, e.Next},
		} {
			b.Run(fmt.Sprintf("%s/%d", c.name, size), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := Diff(c.a, c.b); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
	a := bigCollection(100_000)
	reversed, shuffled, strangers := bigValues(a.Len()), bigValues(a.Len()), bigValues(a.Len())
	slices.Reverse(reversed)
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	repeated := bigValues(a.Len())
	for i := range repeated {
		strangers[i] = num(-i - 1)
		repeated[i] = num(shuffledIndex(i) % 1000)
	}
	for _, c := range []struct {
		name string
		a, b *Snapshot
	}{
		{"reversed", a, NewCollection(reversed)},
		{"shuffled", a, NewCollection(shuffled)},
		{"strangers", a, NewCollection(strangers)},
		{"repeated", NewCollection(repeated[:50_000]), NewCollection(repeated[50_000:])},
	} {
		b.Run(fmt.Sprintf("collection, %s/%d", c.name, c.a.Len()), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Diff(c.a, c.b); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// shuffledIndex returns a pseudo-random index.
func shuffledIndex(i int) int { return int(uint32(i) * 2654435761 >> 8) }

func BenchmarkJSON(b *testing.B) {
	for _, size := range sizes {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s := bigModel(size)
			for b.Loop() {
				s.encode(nil, false)
			}
		})
	}
}
