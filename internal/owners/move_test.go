package owners

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"sluice/internal/httpedge"
	"sluice/internal/session"
	"sluice/internal/state"
	"sluice/netpoll"
)

// FuzzBatch has an old process send any description with any keys. What is taken says the same as
// was sent, and nothing contradicts itself.
func FuzzBatch(f *testing.F) {
	for _, b := range []batch{
		{At: 1, Snapshots: []numbered{{1, []byte(`{"a":1}`)}, {2, []byte(`[1,{"rid":"x.y"}]`)}}, Forget: []int{3}},
		{Clients: []moved{{Socket: netpoll.WebSocket{In: []byte("x"), TLS: &netpoll.Sealed{Out: []byte("y"), Plain: 0}}}}},
		{Clients: []moved{{Socket: netpoll.WebSocket{Stream: true}, Session: session.Moved{Stream: true}, Stream: &httpedge.StreamState{Beat: time.Second}}}},
		{Clients: []moved{{Session: session.Moved{CID: "c", Protocol: "1.2.3", Token: "1", Subs: []session.MovedSub{
			{RID: "x.y", State: "sent", Direct: 1, Snapshot: 1, Access: &session.MovedAccess{Get: true}, Held: []session.MovedEvent{{Name: "e", Payload: "[]"}}, Lost: 1},
		}}}}, Snapshots: []numbered{{1, []byte(`{"a":1}`)}}},
		{Clients: []moved{{Stream: new(httpedge.StreamState)}}},
	} {
		text, err := json.Marshal(b)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, append([]byte{0x13, 1}, make([]byte, 17+64)...))
	}
	f.Add([]byte(`{"Clients":[{"Socket":{"Keys":{}}}]}`), []byte{})
	f.Fuzz(func(t *testing.T, body, keys []byte) {
		g := &Guests{snapshots: make(map[int]*state.Snapshot)}
		b, err := g.decode(body)
		if err != nil {
			return
		}
		defer b.wipe()
		if b.addKeys(keys) != nil || !b.agrees() {
			return
		}
		for i := range b.Clients {
			c := &b.Clients[i]
			if (c.Socket.TLS != nil) != (c.Socket.Keys.Suite != 0) || c.Socket.Stream != c.Session.Stream {
				t.Errorf("%+v", c)
			}
			if m := &c.Session; m.Check(&g.parser, g.snapshots, []string{"x.y"}) == nil && slices.ContainsFunc(m.Subs, func(sub session.MovedSub) bool { return sub.Topic != 0 && sub.State == "sent" }) {
				t.Errorf("%+v has a topic that is not there", m)
			}
		}
	})
}

// TestStillness: it is given up to move clients when none has moved for their patience and some
// rounds, not counting what the other process takes; that is bounded by itself.
func TestStillness(t *testing.T) {
	type round struct {
		takes, awaits time.Duration
		moved         bool
	}
	for name, c := range map[string]struct {
		round
		over int // the round after which it is
	}{
		"quick rounds":                    {round{takes: 20 * time.Millisecond}, 251},
		"rounds of a process without CPU": {round{takes: 2 * time.Second}, moveRounds},
		"the other process is slow":       {round{takes: 6 * time.Second, awaits: 5900 * time.Millisecond}, 21},
		"it is slower":                    {round{takes: 25 * time.Second, awaits: 25 * time.Second}, 5},
		"clients move":                    {round{takes: time.Hour, moved: true}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := stillness{patience: 5 * time.Second, since: time.Hour}
			now, over := time.Hour, 0
			for n := 1; n <= 1000 && over == 0; n++ {
				now += c.takes
				s.awaited += c.awaits
				if s.over(now, c.moved) {
					over = n
				}
			}
			if over != c.over {
				t.Errorf("over after round %d, want %d", over, c.over)
			}
		})
	}
}
