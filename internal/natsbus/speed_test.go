package natsbus

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/internal/limit"
	"sluice/internal/natstest"
	"sluice/internal/owner"
	"sluice/internal/secret"
	"sluice/internal/tracing"
)

// sink is a receiver that only counts, and hands replies to a caller.
type sink struct {
	events  int
	replies chan Reply
}

func (s *sink) Event(string, string, []byte, time.Duration) { s.events++ }
func (s *sink) System(string, []byte)                       {}
func (s *sink) Token(string, []byte)                        {}
func (s *sink) Refused(string, error)                       {}
func (s *sink) Missed(string)                               {}
func (s *sink) Reply(r Reply) {
	if s.replies != nil {
		s.replies <- r
	}
}

// offline is a bus of one link without goroutines and without NATS.
func offline(r Receiver) *Bus {
	b := &Bus{opts: Options{Receiver: r, Log: slog.New(slog.NewTextHandler(io.Discard, nil))}.withDefaults()}
	l := &link{opts: &b.opts, inbox: "_INBOX.abcdefghijklmnopqrstuvwxyz.", msgs: make(chan *nats.Msg, 10)}
	l.lineLimit.Store(maxControlLine)
	l.queue = owner.NewMailbox[*batch](func() {})
	b.links = []*link{l}
	return b
}

func dispatched(b *Bus) map[string]*nats.Msg {
	return map[string]*nats.Msg{
		"event": {Subject: "event.library.book.42.change", Data: []byte(`{"values":{"title":"x"}}`)},
		"reply": {Subject: b.links[0].inbox + string(appendReplyToken(nil, 1, 2, 3, 4)), Data: []byte(`{"result":{}}`)},
		"token": {Subject: "conn.abcdef.token", Data: []byte(`{"token":null}`)},
	}
}

func TestDispatchDoesNotAllocate(t *testing.T) {
	b := offline(&sink{})
	d := newDispatcher(b.links[0])
	for kind, m := range dispatched(b) {
		if n := testing.AllocsPerRun(1000, func() { d.take(m) }); n != 0 {
			t.Errorf("%s: %v allocations", kind, n)
		}
	}
}

// asker makes requests in turns of perTurn and ends each of them with an answer.
type asker struct {
	b       *Bus
	c       *Caller
	payload []byte
	done    func([]byte, error)
	ended   int
	trace   *tracing.Context // of all requests
}

const perTurn = 64

// send does to what the caller has flushed what a publisher does, except publishing.
func (a *asker) send() {
	l := a.b.links[0]
	l.queue.Drain(0, func(b *batch) {
		for i := range b.ops {
			o := &b.ops[i]
			now := a.b.opts.Clock.Now()
			if o.service != nil && (o.service.Waits(0) || !o.service.TryAcquire(now)) {
				panic("the limit is too low for the test")
			}
			if o.slot.claim(o.gen, now) {
				o.slot.word.CompareAndSwap(word(o.gen, claimed), word(o.gen, 1))
			}
		}
		l.queued.Add(-int64(len(b.ops)))
		l.queuedBytes.Add(-int64(len(b.payloads)))
		b.release()
	})
}

func newAsker() *asker {
	a := &asker{b: offline(&sink{}), payload: make([]byte, 100)}
	clock := owner.NewManualClock()
	a.c = a.b.NewCaller(1, owner.NewWheel(time.Millisecond, clock.Now()), clock.Now)
	a.done = func([]byte, error) { a.ended++ }
	return a
}

// limit gives the asker's service a limit.
func (a *asker) limit(n int) {
	a.b.opts.Services = limit.NewTable(limit.Options{Max: n, Min: n, Parts: 1})
}

func (a *asker) turn() {
	for range perTurn {
		a.c.Request(Request{Name: "library.book.42", Subject: "get.library.book.42", Payload: a.payload, Trace: a.trace}, a.done)
	}
	a.c.Flush()
	a.send()
	for i := range uint32(perTurn) {
		a.c.Deliver(Reply{slot: i, gen: a.c.slot(i).gen(), at: a.b.opts.Clock.Now()})
	}
}

func TestRequestDoesNotAllocate(t *testing.T) {
	a := newAsker()
	// The batch pool is emptied by the garbage collector now and then; that is less than once a
	// turn.
	if n := testing.AllocsPerRun(1000, a.turn); n != 0 && !poolForgets {
		t.Errorf("%v allocations in a turn of %d requests", n, perTurn)
	}
	if a.c.pending != 0 || a.ended != perTurn*1001 {
		t.Fatalf("pending %d, ended %d", a.c.pending, a.ended)
	}
}

func BenchmarkDispatch(b *testing.B) {
	bus := offline(&sink{})
	d := newDispatcher(bus.links[0])
	for kind, m := range dispatched(bus) {
		b.Run(kind, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				d.take(m)
			}
		})
	}
}

// BenchmarkRequest is the owner's share of a request and its answer, without publishing: what the
// limit of an unloaded service costs, and what a trace costs that is recorded, or is not.
func BenchmarkRequest(b *testing.B) {
	for name, parent := range map[string]string{"recorded": clientParent + "1", "unrecorded": clientParent + "0"} {
		b.Run(name, func(b *testing.B) {
			a := newAsker()
			clock := owner.NewManualClock()
			log := slog.New(slog.DiscardHandler)
			tracer := tracing.New(tracing.Options{Endpoint: "http://127.0.0.1:1"}, tracing.Env{Clock: clock, Wall: time.Now, Metrics: new(tracing.Metrics), Faults: owner.NewFaults(clock, log), Log: log})
			a.c.recorder = tracer.NewRecorder(clock.Now)
			trace := tracing.Parse(parent, "")
			a.trace = &trace
			b.ReportAllocs()
			for n := 0; n < b.N; n += perTurn {
				a.turn()
			}
		})
	}
	for _, most := range []int{0, 1000} {
		b.Run(fmt.Sprint("limit", most), func(b *testing.B) {
			a := newAsker()
			if most > 0 {
				a.limit(most)
			}
			b.ReportAllocs()
			for n := 0; n < b.N; n += perTurn {
				a.turn()
			}
		})
	}
}

// BenchmarkRoundTrip is a request through a real server to a service and back, with so many under
// way.
func BenchmarkRoundTrip(b *testing.B) {
	for _, underWay := range []int{1, 64, 1024} {
		for _, most := range []int{0, 4096} {
			name := fmt.Sprint(underWay)
			if most > 0 {
				name += "-limited"
			}
			b.Run(name, func(b *testing.B) {
				s := natstest.Start(b)
				service := s.Client()
				answer := []byte(`{"result":{"get":true}}`)
				if _, err := service.Subscribe("access.>", func(m *nats.Msg) { _ = m.Respond(answer) }); err != nil {
					b.Fatal(err)
				}
				if err := service.FlushTimeout(patience); err != nil {
					b.Fatal(err)
				}
				r := &sink{replies: make(chan Reply, 2*underWay)}
				o := Options{URL: secret.URLs(s.URL()), Receiver: r}
				if most > 0 {
					o.Services = limit.NewTable(limit.Options{Max: most, Min: most, Parts: 1})
				}
				bus, err := Connect(context.Background(), o)
				if err != nil {
					b.Fatal(err)
				}
				defer bus.Close()
				clock := owner.NewManualClock()
				c := bus.NewCaller(1, owner.NewWheel(time.Millisecond, clock.Now()), clock.Now)
				payload := []byte(`{"cid":"abcdefghijkl"}`)
				asked, ended := 0, 0
				done := func(_ []byte, err error) {
					if err != nil {
						b.Fatal(err)
					}
					ended++
				}
				b.ReportAllocs()
				b.ResetTimer()
				for ended < b.N {
					for asked < b.N && asked-ended < underWay {
						asked++
						c.Request(Request{Name: "library.book.42", Subject: "access.library.book.42", Payload: payload}, done)
					}
					c.Flush()
					c.Deliver(<-r.replies)
					for n := len(r.replies); n > 0; n-- {
						c.Deliver(<-r.replies)
					}
				}
			})
		}
	}
}

// BenchmarkEvents is an event from a service through a real server to the receiver.
func BenchmarkEvents(b *testing.B) {
	s := natstest.Start(b)
	r := &counter{sink: sink{replies: make(chan Reply, 1)}, total: b.N, reached: make(chan struct{})}
	bus, err := Connect(context.Background(), Options{URL: secret.URLs(s.URL()), Receiver: r, PendingLimit: 1 << 20})
	if err != nil {
		b.Fatal(err)
	}
	defer bus.Close()
	clock := owner.NewManualClock()
	c := bus.NewCaller(1, owner.NewWheel(time.Millisecond, clock.Now()), clock.Now)
	if err := c.Subscribe("library.book.42"); err != nil {
		b.Fatal(err)
	}
	c.Request(Request{Name: "library.book.42", Subject: "get.nobody"}, func([]byte, error) {})
	c.Flush()
	<-r.replies // the subscription is in force
	service := s.Client()
	payload := []byte(`{"values":{"title":"Animal Farm"}}`)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if err := service.Publish("event.library.book.42.change", payload); err != nil {
			b.Fatal(err)
		}
	}
	if err := service.FlushTimeout(patience); err != nil {
		b.Fatal(err)
	}
	<-r.reached
}

// counter says when it has received total events.
type counter struct {
	sink
	total   int
	reached chan struct{}
}

func (c *counter) Event(string, string, []byte, time.Duration) {
	c.events++
	if c.events == c.total {
		close(c.reached)
	}
}
