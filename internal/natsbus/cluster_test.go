package natsbus

import (
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"sluice/internal/natstest"
	"sluice/internal/secret"
	"sluice/internal/testkit"
)

// watched connects a harness to a cluster of two servers, and returns the server that it is not
// connected to when that one is watched.
func watched(t *testing.T, h *harness) (c *natstest.Cluster, other *natstest.Server) {
	t.Helper()
	c = natstest.StartCluster(t, 2)
	h.connect(func(_ *harness, o *Options) {
		o.URL = secret.URLs(c.Nodes[0].URL() + "," + c.Nodes[1].URL())
		o.Beat = 20 * time.Millisecond
	})
	testkit.Until(h.t, "the other server is watched", func() bool { return h.bus.Metrics().Watched.Load() == 1 })
	other = c.Nodes[0]
	if h.bus.links[0].nc.Load().ConnectedUrl() == other.URL() {
		other = c.Nodes[1]
	}
	return c, other
}

// TestPartition: the gateway's server and that of a service lose each other. No connection of a
// client is lost, but events are, so a gap is signalled when the servers are together again.
func TestPartition(t *testing.T) {
	h := &harness{t: t}
	c, other := watched(t, h)
	m := h.bus.Metrics()
	service := other.Client()
	if err := h.caller.Subscribe("test.model"); err != nil {
		t.Fatal(err)
	}
	h.caller.Flush()
	arrives := func(data string) { // events of one connection keep their order
		t.Helper()
		for got := ""; got != data; {
			if err := service.Publish("event.test.model.custom", []byte(data)); err != nil {
				t.Fatal(err)
			}
			if err := service.FlushTimeout(patience); err != nil {
				t.Fatal(err)
			}
			select {
			case i := <-h.items:
				got = i.data
			case <-time.After(10 * time.Millisecond): // the interest has not reached the other server yet
			}
		}
	}
	arrives("before")

	c.Partition(t)
	testkit.Until(h.t, "the partition is noticed", func() bool { return m.Partitions.Load() > 0 && m.Watched.Load() == 0 })
	gaps := m.Gaps.Load()
	c.Heal(t)
	testkit.Until(h.t, "a gap is signalled", func() bool { return m.Gaps.Load() > gaps })
	testkit.Until(h.t, "the other server is watched again", func() bool { return m.Watched.Load() == 1 })
	if n := m.Disconnects.Load(); n != 0 {
		t.Errorf("%d connections lost", n)
	}
}

// TestWitnessLosesItsServer: a server that was down is watched again when it is back, and the
// gateway's own connection does not notice.
func TestWitnessLosesItsServer(t *testing.T) {
	h := &harness{t: t}
	_, other := watched(t, h)
	m := h.bus.Metrics()
	for range 2 {
		other.Stop()
		testkit.Until(h.t, "the server counts as lost", func() bool { return m.Watched.Load() == 0 })
		other.Start()
		testkit.Until(h.t, "the server is watched again", func() bool { return m.Watched.Load() == 1 })
	}
	if n := m.Disconnects.Load(); n != 0 {
		t.Errorf("%d connections lost", n)
	}
}

// TestForgedBeats: what arrives on a witness's subject is anyone's.
func TestForgedBeats(t *testing.T) {
	h := &harness{t: t}
	_, other := watched(t, h)
	gaps := h.bus.Metrics().Gaps.Load()
	service := other.Client()
	sub, err := service.SubscribeSync(h.bus.links[0].inbox + "*")
	if err != nil {
		t.Fatal(err)
	}
	beat, err := sub.NextMsg(patience)
	if err != nil {
		t.Fatal(err)
	}
	number := binary.BigEndian.Uint64(beat.Data[4:])
	far := binary.BigEndian.AppendUint64(append([]byte(nil), beat.Data[:4]...), number+1<<40)
	for _, forged := range [][]byte{nil, {1}, beat.Data, far, []byte(strings.Repeat("x", 12)), make([]byte, 1<<16)} {
		for _, subject := range []string{beat.Subject, h.bus.links[0].inbox + beatToken + "nobody"} {
			if err := service.Publish(subject, forged); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 5 {
		if _, err := sub.NextMsg(patience); err != nil {
			t.Fatal(err)
		}
	}
	if n := h.bus.Metrics().Gaps.Load(); n != gaps {
		t.Errorf("%d gaps by forged beats", n-gaps)
	}
}

// TestGapsAreSpaced: however often messages between servers are lost, everything is fetched anew
// once in ten rounds at most, and once more at the end.
func TestGapsAreSpaced(t *testing.T) {
	h := newHarness(t, func(_ *harness, o *Options) { o.Beat = time.Hour })
	l := h.bus.links[0]
	w := &witness{token: "w", session: 1, number: 1 << 30, heard: map[*link]*heard{l: {epoch: l.epoch.Load()}}}
	c := newCluster(h.bus)
	c.gaps[l], c.witnesses["other"] = new(gaps), w
	lost := func(number uint64) {
		c.arrived(beat{link: l, epoch: l.epoch.Load(), witness: "w", session: 1, number: number})
	}
	signals := func(want int) {
		t.Helper()
		for range want {
			h.want("signal", "signal 0 gap")
		}
		if n := h.bus.Metrics().Gaps.Load(); n > 2 {
			t.Fatalf("%d gaps", n)
		}
	}
	for n := range uint64(20) {
		lost(1 + 2*n)
	}
	signals(1)
	for range roundsPerGap {
		c.rounds++
		c.signal()
	}
	signals(1)
	for range 3 * roundsPerGap {
		c.rounds++
		c.signal()
	}
	if c.gaps[l].due {
		t.Error("a third gap is due although nothing more was lost")
	}
}
