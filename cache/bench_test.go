package cache

import (
	"fmt"
	"testing"

	"sluice/internal/limit"
	"sluice/internal/owner"
	"sluice/internal/res"
	"sluice/internal/state"
)

// sink is a Bus and Loops that only count calls.
type sink struct {
	answer func(subject string) []byte
	done   []func()
	posted int
}

func (k *sink) Subscribe(string)        {}
func (k *sink) Unsubscribe(string)      {}
func (k *sink) Flush()                  {}
func (k *sink) Post(int, state.Update)  { k.posted++ }
func (k *sink) Backlog(int) int         { return 0 }
func (k *sink) reply()                  { k.done[0](); k.done = k.done[1:] }
func (k *sink) clock() owner.Clock      { return owner.NewManualClock() }
func (k *sink) options(n int) Options   { return Options{Clock: k.clock(), Loops: n} }
func (k *sink) shard(loops int) *Shard  { return NewShard(k.options(loops), k, k) }
func (k *sink) take(s *Shard, n string) { s.Subscribe(0, 1, n, "", nil); s.turn(); k.reply(); s.turn() }

func (k *sink) Request(_ limit.Priority, _, subject string, _ []byte, done func([]byte, *res.Error)) {
	k.done = append(k.done, func() { done(k.answer(subject), nil) })
}

func bigCollection(size int) []byte {
	text := []byte(`{"result":{"collection":[`)
	for i := range size {
		if i > 0 {
			text = append(text, ',')
		}
		text = fmt.Appendf(text, `{"rid":"test.item.%d"}`, i)
	}
	return append(text, "]}}"...)
}

// BenchmarkEvent: an event from the mailbox to the post. Its cost must not grow with the resource.
func BenchmarkEvent(b *testing.B) {
	for _, size := range []int{100, 100_000} {
		b.Run(fmt.Sprintf("add+remove/%d", size), func(b *testing.B) {
			k := &sink{answer: func(string) []byte { return bigCollection(size) }}
			s := k.shard(1)
			k.take(s, "test.list")
			add := fmt.Appendf(nil, `{"idx":%d,"value":{"rid":"test.item.x"}}`, size/2)
			remove := fmt.Appendf(nil, `{"idx":%d}`, size/2)
			b.ReportAllocs()
			for b.Loop() {
				s.Event("test.list", "add", add, 0)
				s.Event("test.list", "remove", remove, 0)
				s.turn()
			}
		})
	}
	b.Run("change", func(b *testing.B) {
		k := &sink{answer: func(string) []byte { return []byte(`{"result":{"model":{"a":1,"b":2,"c":3,"d":4}}}`) }}
		s := k.shard(1)
		k.take(s, "test.model")
		texts := [][]byte{[]byte(`{"values":{"a":5}}`), []byte(`{"values":{"a":6}}`)}
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			s.Event("test.model", "change", texts[i%2], 0)
			s.turn()
		}
	})
	b.Run("custom", func(b *testing.B) {
		k := &sink{answer: func(string) []byte { return []byte(`{"result":{"model":{}}}`) }}
		s := k.shard(1)
		k.take(s, "test.model")
		text := []byte(`{"a":5}`)
		b.ReportAllocs()
		for b.Loop() {
			s.Event("test.model", "custom", text, 0)
			s.turn()
		}
	})
}

// BenchmarkReset: the cost of a reset of one name must not grow with the number of names.
func BenchmarkReset(b *testing.B) {
	for _, names := range []int{100, 100_000} {
		b.Run(fmt.Sprint(names), func(b *testing.B) {
			k := &sink{answer: func(string) []byte { return []byte(`{"result":{"model":{"a":1}}}`) }}
			s := k.shard(1)
			for i := range names {
				k.take(s, fmt.Sprintf("test.n%d.model", i))
			}
			p, _ := res.ParsePattern("test.n7.*")
			patterns := []res.Pattern{p}
			b.ReportAllocs()
			for b.Loop() {
				s.Reset(patterns)
				s.turn()
				k.reply()
				s.turn()
			}
		})
	}
}

func BenchmarkSubscribe(b *testing.B) {
	k := &sink{answer: func(string) []byte { return []byte(`{"result":{"model":{"a":1}}}`) }}
	s := k.shard(1)
	k.take(s, "test.model")
	b.ReportAllocs()
	for i := uint64(2); b.Loop(); i++ {
		s.Subscribe(0, i, "test.model", "", nil)
		s.Unsubscribe(0, i, "test.model", "")
		s.turn()
	}
}
