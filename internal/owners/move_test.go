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
