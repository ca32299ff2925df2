package natsbus

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/internal/natstest"
)

func TestOrderAcrossSubscriptions(t *testing.T) {
	h := newHarness(t)
	const names, rounds = 40, 50
	for n := range names {
		if err := h.caller.Subscribe(fmt.Sprint("lib.book.", n)); err != nil {
			t.Fatal(err)
		}
	}
	// One service connection answers, and sends events before and after each answer.
	want := make(chan string, rounds*3)
	seq := 0
	h.service("get.>", func(nc *nats.Conn, m *nats.Msg) {
		for part := range 3 {
			if part == 1 {
				want <- fmt.Sprintf("reply \"%d\" <nil>", seq)
				_ = m.Respond([]byte(fmt.Sprint(seq)))
			} else {
				name := fmt.Sprint("lib.book.", (seq*7)%names)
				want <- fmt.Sprintf("event %s.change %d", name, seq)
				_ = nc.Publish("event."+name+".change", []byte(fmt.Sprint(seq)))
			}
			seq++
		}
	})
	var last *outcome
	for i := range rounds {
		last = h.request(fmt.Sprint("lib.book.", i), fmt.Sprint("get.lib.book.", i), "{}")
	}
	h.caller.Flush()
	for i := range rounds * 3 {
		if got, want := h.next("event", "reply").String(), <-want; got != want {
			t.Fatalf("item %d: got %q, want %q", i, got, want)
		}
	}
	if last.calls != 1 {
		t.Fatal("requests were not answered in order")
	}
}

// The service's events around its answer arrive, since the subscription is in force before the
// request.
func TestSubscribeBeforeRequest(t *testing.T) {
	h := newHarness(t)
	h.service("get.>", func(nc *nats.Conn, m *nats.Msg) {
		name := strings.TrimPrefix(m.Subject, "get.")
		_ = nc.Publish("event."+name+".before", nil)
		_ = m.Respond([]byte("{}"))
		_ = nc.Publish("event."+name+".after", nil)
	})
	for i := range 200 {
		name := fmt.Sprint("item.", i)
		if err := h.caller.Subscribe(name); err != nil {
			t.Fatal(err)
		}
		h.request(name, "get."+name, "{}")
		h.caller.Flush()
		for _, want := range []string{"event " + name + ".before ", `reply "{}" <nil>`, "event " + name + ".after "} {
			if got := h.next("event", "reply").String(); got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
		}
	}
}

func TestSubjectsAreCut(t *testing.T) {
	h := newHarness(t)
	for _, name := range []string{"a", "a.b", "a.b.c", "ä.ö", "event.system.x"} {
		if err := h.caller.Subscribe(name); err != nil {
			t.Fatal(err)
		}
	}
	h.caller.Flush()
	h.sync()
	nc := h.nats.Client()
	for _, c := range []struct{ subject, want string }{
		{"event.a.change", "event a.change 1"},
		{"event.a.b.add", "event a.b.add 1"},
		{"event.a.b.c.custom", "event a.b.c.custom 1"},
		{"event.ä.ö.ü", "event ä.ö.ü 1"},
		{"event.event.system.x.y", "event event.system.x.y 1"},
		{"system.reset", "system .reset 1"},
		{"system.tokenReset", "system .tokenReset 1"},
		{"conn.c1d.token", "token c1d. 1"},
	} {
		h.publish(nc, c.subject, "1")
		if got := h.next("event", "system", "token").String(); got != c.want {
			t.Errorf("%s: got %q, want %q", c.subject, got, c.want)
		}
	}
	h.publish(nc, "event.a.b.c.d.e", "not subscribed")
	h.publish(nc, "conn.x.y.token", "two tokens")
	h.publish(nc, "event.a.last", "")
	if got := h.next("event", "system", "token").String(); got != "event a.last " {
		t.Errorf("got %q", got)
	}
	if n := h.bus.Metrics().Events.Load(); n != 6 {
		t.Errorf("events counted: %d", n)
	}
}

func TestUnsubscribe(t *testing.T) {
	h := newHarness(t)
	nc := h.nats.Client()
	subscribe := func(f func(string) error) {
		t.Helper()
		if err := f("a"); err != nil {
			t.Fatal(err)
		}
		h.caller.Flush()
		h.sync()
	}
	expect := func(received bool) {
		t.Helper()
		h.publish(nc, "event.a.x", "")
		h.publish(nc, "system.x", "")
		h.flush(nc)
		i := h.next("event", "system")
		if (i.kind == "event") != received {
			t.Fatalf("received: got %v, want %v", !received, received)
		}
		if received {
			h.want("system", "system .x ")
		}
	}
	expect(false)
	subscribe(h.caller.Subscribe)
	subscribe(h.caller.Subscribe) // a name is not counted, and its events come once
	expect(true)
	subscribe(h.caller.Unsubscribe)
	expect(false)
	subscribe(h.caller.Unsubscribe)
	subscribe(h.caller.Subscribe)
	expect(true)
	subscribe(h.caller.Unsubscribe)
	expect(false)
	if n := h.bus.Metrics().Subscriptions.Load(); n != 0 {
		t.Fatalf("subscriptions: %d", n)
	}
}

func TestThousandsOfSubscriptions(t *testing.T) {
	h := newHarness(t)
	const names = 10_000
	for n := range names {
		if err := h.caller.Subscribe(fmt.Sprint("n.", n)); err != nil {
			t.Fatal(err)
		}
	}
	h.caller.Flush()
	h.sync()
	if n := h.bus.Metrics().Subscriptions.Load(); n != names {
		t.Fatalf("subscriptions: %d", n)
	}
	nc := h.nats.Client()
	for n := range names {
		h.publish(nc, fmt.Sprint("event.n.", n, ".e"), "")
	}
	for n := range names {
		h.want("event", fmt.Sprintf("event n.%d.e ", n))
	}
	for n := range names {
		if err := h.caller.Unsubscribe(fmt.Sprint("n.", n)); err != nil {
			t.Fatal(err)
		}
	}
	h.caller.Flush()
	h.sync()
	if n := h.nats.Server().NumSubscriptions(); n > 100 {
		t.Fatalf("the server still has %d subscriptions", n)
	}
}

// Receivers keep payloads. The sizes cross nats.go's read buffer in every way.
func TestPayloadsMayBeKept(t *testing.T) {
	h := newHarness(t)
	keeper := &keeper{harness: h, all: make(chan []byte, 10_000)}
	h.bus.Close()
	h.connect(func(_ *harness, o *Options) { o.Receiver = keeper })
	if err := h.caller.Subscribe("a"); err != nil {
		t.Fatal(err)
	}
	h.caller.Flush()
	h.sync()
	nc := h.nats.Client()
	size := func(i int) int { return (i * i * 37) % 70_000 }
	const count = 600
	for i := range count {
		if err := nc.Publish("event.a.x", bytes.Repeat([]byte{byte(i)}, size(i))); err != nil {
			t.Fatal(err)
		}
	}
	var kept [][]byte
	for range count {
		kept = append(kept, <-keeper.all)
	}
	for i, data := range kept {
		if len(data) != size(i) || bytes.Count(data, []byte{byte(i)}) != len(data) {
			t.Fatalf("payload %d was overwritten", i)
		}
	}
}

type keeper struct {
	*harness
	all chan []byte
}

func (k *keeper) Event(_, _ string, data []byte, _ time.Duration) { k.all <- data }

func TestReconnectAfterRestart(t *testing.T) {
	h := newHarness(t)
	for n := range 100 {
		if err := h.caller.Subscribe(fmt.Sprint("n.", n)); err != nil {
			t.Fatal(err)
		}
	}
	h.caller.Flush()
	h.sync()
	for round := range 2 {
		h.nats.Stop()
		h.want("signal", "signal 0 disconnected")
		if h.bus.Connected() {
			t.Fatal("still called connected")
		}
		// What is subscribed and unsubscribed meanwhile holds afterwards.
		if err := h.caller.Subscribe(fmt.Sprint("late.", round)); err != nil {
			t.Fatal(err)
		}
		if err := h.caller.Unsubscribe(fmt.Sprint("n.", round)); err != nil {
			t.Fatal(err)
		}
		h.caller.Flush()
		h.nats.Start()
		h.want("signal", "signal 0 connected")
		h.want("signal", "signal 0 gap")
		h.sync()
		nc := h.nats.Client()
		for n := range 100 {
			h.publish(nc, fmt.Sprint("event.n.", n, ".e"), "")
		}
		h.publish(nc, fmt.Sprint("event.late.", round, ".e"), "")
		h.publish(nc, "system.reset", "{}")
		h.publish(nc, "conn.c.token", "{}")
		for n := round + 1; n < 100; n++ {
			h.want("event", fmt.Sprintf("event n.%d.e ", n))
		}
		h.want("event", fmt.Sprintf("event late.%d.e ", round))
		h.want("system", "system .reset {}")
		h.want("token", "token c. {}")
	}
	m := h.bus.Metrics()
	if m.Disconnects.Load() != 2 || m.Reconnects.Load() != 2 || m.Gaps.Load() != 2 {
		t.Fatalf("disconnects %d, reconnects %d, gaps %d", m.Disconnects.Load(), m.Reconnects.Load(), m.Gaps.Load())
	}
}

func TestReconnectAfterCut(t *testing.T) {
	h := newHarness(t)
	if err := h.caller.Subscribe("a"); err != nil {
		t.Fatal(err)
	}
	h.caller.Flush()
	h.sync()
	if n := h.nats.Cut("sluice"); n != 1 {
		t.Fatalf("cut %d connections", n)
	}
	h.want("signal", "signal 0 disconnected")
	h.want("signal", "signal 0 connected")
	h.want("signal", "signal 0 gap")
	h.sync()
	h.publish(h.nats.Client(), "event.a.e", "")
	h.want("event", "event a.e ")
}

// More messages than the channel holds, while the dispatcher is held up: the rest is dropped, no
// goroutine blocks, and a Gap follows. A second overrun without a message of that subscription in
// between is one that nats.go does not report; it must be noticed all the same.
func TestOverrunIsAGap(t *testing.T) {
	const room = 64
	h := &harness{t: t}
	h.nats = natstest.Start(t)
	gate := make(chan struct{}, 1<<16)
	h.gate = gate
	h.connect(func(_ *harness, o *Options) { o.PendingLimit = room })
	if err := h.caller.Subscribe("a"); err != nil {
		t.Fatal(err)
	}
	h.caller.Flush()
	h.sync()
	nc := h.nats.Client()
	received := func() uint64 { return h.bus.links[0].nc.Load().(natsConn).Stats().InMsgs }
	fill := func(count int) {
		t.Helper()
		before := received()
		for range count {
			h.publish(nc, "event.a.e", "")
		}
		h.flush(nc)
		// nats.go answers the ping after it has handled everything before it: nothing blocks its
		// reader.
		h.flush(h.bus.links[0].nc.Load().(natsConn).Conn)
		if n := received() - before; n != uint64(count) {
			t.Fatalf("nats.go has read %d of %d messages", n, count)
		}
	}
	open := func(n int) {
		for range n {
			gate <- struct{}{}
		}
	}
	const sent = 10 * room
	fill(sent)
	// Most of the channel goes, the dispatcher stands still again: the Gap is there before the
	// rest.
	open(room - room/8 + 2)
	h.want("signal", "signal 0 gap")
	// The same subscription overruns again. nats.go has marked it as slow and stays silent.
	fill(sent)
	open(2 * room)
	h.want("signal", "signal 0 gap")
	h.sync()
	m := h.bus.Metrics()
	if got := m.Events.Load(); got >= 2*sent || got < room {
		t.Fatalf("events received: %d of %d", got, 2*sent)
	}
	if m.Gaps.Load() != 2 || m.SlowConsumer.Load() == 0 {
		t.Fatalf("gaps %d, slow consumer reports %d", m.Gaps.Load(), m.SlowConsumer.Load())
	}
	// Below the limit there is no gap.
	open(room)
	fill(room / 2)
	h.sync()
	if m.Gaps.Load() != 2 {
		t.Fatalf("a gap without a loss")
	}
}

// Under a load that never lets up the channel never drains; the Gaps come all the same, now and
// then.
func TestLastingOverrunGivesGaps(t *testing.T) {
	const room = 8
	gate := make(chan struct{})
	h := newHarness(t, func(h *harness, o *Options) {
		h.gate = gate
		o.PendingLimit = room
	})
	if err := h.caller.Subscribe("a"); err != nil {
		t.Fatal(err)
	}
	h.caller.Flush()
	h.sync()
	nc := h.nats.Client()
	ours := h.bus.links[0].nc.Load()
	for h.bus.Metrics().Gaps.Load() < 3 {
		for range 3 {
			h.publish(nc, "event.a.e", "")
		}
		h.flush(nc)
		h.flush(ours.(natsConn).Conn)
		if left := len(h.bus.links[0].msgs); left == room {
			gate <- struct{}{}
		}
		if n := h.bus.Metrics().Events.Load(); n > 100*room {
			t.Fatal("no gaps")
		}
	}
	close(gate)
}

func TestSeveralConnections(t *testing.T) {
	const conns, names = 4, 64
	h := newHarness(t, func(_ *harness, o *Options) { o.Conns = conns })
	if n := h.nats.Server().NumClients(); n != conns {
		t.Fatalf("connections at the server: %d", n)
	}
	h.service("get.>", func(nc *nats.Conn, m *nats.Msg) {
		name := strings.TrimPrefix(m.Subject, "get.")
		for n := range 5 {
			_ = nc.Publish("event."+name+".e", []byte(fmt.Sprint(n)))
		}
		_ = m.Respond([]byte("=" + name))
		_ = nc.Publish("event."+name+".e", []byte("5"))
	})
	used := make(map[int]int)
	for n := range names {
		name := fmt.Sprint("n.", n)
		used[h.bus.ConnOf(name)]++
		if err := h.caller.Subscribe(name); err != nil {
			t.Fatal(err)
		}
		h.caller.Request(Request{Name: name, Subject: "get." + name}, func([]byte, error) {})
	}
	h.caller.Flush()
	if len(used) != conns {
		t.Fatalf("names are on connections %v", used)
	}
	// Order holds for each name; a name's answer stands between its events.
	next := make(map[string]int)
	for range names * 7 {
		i := h.next("event", "reply")
		name := i.name
		if i.kind == "reply" {
			name = strings.TrimPrefix(i.data, "=")
		}
		at := next[name]
		next[name]++
		if (i.kind == "reply") != (at == 5) || i.kind == "event" && at < 5 && i.data != fmt.Sprint(at) {
			t.Fatalf("item %d of a name: %s", at, i)
		}
	}
	// System and token messages come once, not once for each connection.
	nc := h.nats.Client()
	h.publish(nc, "system.reset", "")
	h.publish(nc, "conn.c.token", "")
	h.flush(nc)
	h.sync()
	if n := h.bus.Metrics().SystemEvents.Load(); n != 2 {
		t.Fatalf("system and token messages: %d", n)
	}
	// Auth answers come on the connection of the token events that they trigger.
	h.service("auth.>", func(nc *nats.Conn, m *nats.Msg) {
		_ = nc.Publish("conn.c.token", []byte(m.Subject))
		_ = m.Respond([]byte("{}"))
	})
	for len(h.items) > 0 {
		h.next("system", "token", "reply", "event")
	}
	for n := range names {
		name := fmt.Sprint("n.", n)
		h.request(name, "auth."+name+".login", "")
		h.caller.Flush()
		if i := h.next("token", "reply"); i.kind != "token" {
			t.Fatalf("%s: the answer overtook the token", name)
		}
		h.next("reply")
	}
	// A cut names its connection.
	h.nats.Cut("sluice")
	seen := make(map[string]int)
	for range conns * 3 {
		seen[h.next("signal").String()]++
	}
	for c := range conns {
		for _, s := range []Signal{Disconnected, Connected, Gap} {
			if k := fmt.Sprintf("signal %d %s", c, s); seen[k] != 1 {
				t.Errorf("%s: %d times", k, seen[k])
			}
		}
	}
}
