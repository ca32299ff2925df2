package natsbus

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
)

// subscriptions returns how many subscriptions the server has from the gateway.
func (h *harness) subscriptions() (n int) {
	h.t.Helper()
	z, err := h.nats.Server().Connz(nil)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, c := range z.Conns {
		if c.Name == "sluice" {
			n += int(c.NumSubs)
		}
	}
	return n
}

func wild(patterns ...string) func(*harness, *Options) {
	return func(_ *harness, o *Options) { o.Wildcards = patterns }
}

// All names that match a pattern share a subscription, which is there before they are asked for.
// Each event of a subscribed name arrives once, however many subscriptions match it; those of other
// names do not arrive.
func TestWildcards(t *testing.T) {
	h := newHarness(t, wild("ticker.>", "ticker.*", "a.*.b"), func(_ *harness, o *Options) { o.Conns = 3 })
	before := h.subscriptions()
	names := []string{"ticker.x", "ticker.x.y", "ticker.z", "a.1.b", "a.2.b"}
	own := []string{"ticker", "other"} // the wildcard's subject matches the events of the first, too
	for _, name := range append(slices.Clone(names), own...) {
		for range 2 {
			if err := h.caller.Subscribe(name); err != nil {
				t.Fatal(err)
			}
		}
		h.caller.Flush()
	}
	h.sync()
	if n := h.subscriptions() - before; n != len(own) {
		t.Errorf("%d subscriptions more, want %d", n, len(own))
	}
	if n := h.bus.Metrics().Subscriptions.Load(); n != int64(len(names)+len(own)) {
		t.Errorf("%d names subscribed", n)
	}
	service := h.nats.Client()
	for _, name := range []string{"ticker.none", "a.3.b"} {
		h.publish(service, "event."+name+".change", "unwanted")
	}
	for _, name := range append(slices.Clone(names), own...) {
		h.publish(service, "event."+name+".change", "1")
	}
	var got []string
	for range len(names) + len(own) {
		got = append(got, h.next("event").String())
	}
	for _, name := range append(slices.Clone(names), own...) {
		if want := "event " + name + ".change 1"; !slices.Contains(got, want) {
			t.Errorf("%q is not among %q", want, got)
		}
	}
	if err := h.caller.Unsubscribe("ticker.x"); err != nil {
		t.Fatal(err)
	}
	h.caller.Flush()
	h.sync()
	h.publish(service, "event.ticker.x.change", "2")
	h.publish(service, "event.ticker.z.change", "2")
	h.want("event", "event ticker.z.change 2")
	if h.bus.Metrics().Unwanted.Load() == 0 {
		t.Error("no unwanted event is counted")
	}
}

// An event that is not wanted costs no allocation and reaches no owner. Of those that are not
// wanted, most are known as such while 100,000 names are.
func TestUnwantedEventsAreCheap(t *testing.T) {
	got := &sink{}
	b := offline(got)
	l := b.links[0]
	l.wild = newWildcards([]string{"library.>"}, 0, 1)
	d := newDispatcher(l)
	m := &nats.Msg{Subject: "event.library.book.42.change", Data: []byte(`{"values":{"title":"x"}}`), Sub: &nats.Subscription{Subject: "event.library.>"}}
	if n := testing.AllocsPerRun(1000, func() { d.take(m) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if got.events != 0 || d.counts.unwanted == 0 {
		t.Errorf("%d events passed, %d are counted as unwanted", got.events, d.counts.unwanted)
	}
	const names = 100_000
	for i := range names {
		l.wild.want(fmt.Sprint("library.page.", i), true)
	}
	passed := 0
	for i := range names {
		if !l.wild.passes(fmt.Sprint("library.page.", i), "event.library.>") {
			t.Fatalf("an event of page %d is dropped", i)
		}
		if l.wild.passes(fmt.Sprint("library.book.", i), "event.library.>") {
			passed++
		}
	}
	if passed > names*15/100 {
		t.Errorf("%d of %d unwanted events pass", passed, names)
	}
}

// The subscription is made again on the next connection.
func TestWildcardAfterReconnect(t *testing.T) {
	h := newHarness(t, wild("ticker.>"))
	if err := h.caller.Subscribe("ticker.x"); err != nil {
		t.Fatal(err)
	}
	h.caller.Flush()
	h.sync()
	h.nats.Cut("sluice")
	h.want("signal", "signal 0 disconnected")
	h.want("signal", "signal 0 connected")
	h.want("signal", "signal 0 gap")
	h.sync()
	h.publish(h.nats.Client(), "event.ticker.x.change", "1")
	h.want("event", "event ticker.x.change 1")
}

// A denied wildcard denies the resources below it, and no others; the gateway is not ready.
func TestRefusedWildcard(t *testing.T) {
	h := restricted(t, nil, []string{"event.ticker.>"}, wild("ticker.>", "other.>"))
	h.answering()
	h.get("ticker.x")
	h.caller.Flush()
	if i := h.next("refused"); i.name != "ticker.x" || !strings.Contains(i.data, "event.ticker.>") {
		t.Fatalf("got %v", i)
	}
	h.until(func() bool {
		err := h.bus.Ready()
		return err != nil && strings.Contains(err.Error(), "event.ticker.>")
	})
	ok := h.get("other.x")
	h.caller.Flush()
	h.finish(ok)
	if ok.err != nil {
		t.Errorf("a resource beside it: %v", ok.err)
	}
	if n := h.bus.Metrics().Subscriptions.Load(); n != 1 {
		t.Errorf("%d names subscribed, want that beside it", n)
	}
}
