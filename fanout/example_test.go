package fanout_test

import (
	"fmt"

	"sluice/fanout"
	"sluice/internal/res"
	"sluice/internal/state"
	"sluice/pool"
)

// shards is the source of the example's hub.
type shards struct{}

func (shards) Subscribe(ref uint64, name, query string, first func()) { fmt.Println("subscribe", name) }
func (shards) Unsubscribe(ref uint64, name, query string)             { fmt.Println("unsubscribe", name) }
func (shards) Refetch(name string)                                    {}

// client is a subscriber and its outbox.
type client struct {
	fanout.Member
	name string
}

func (c *client) Loaded()                                       { fmt.Println(c.name, "has", string(c.Topic().Snapshot().JSON(false))) }
func (c *client) Event(e *state.Event, prev *state.Snapshot)    {}
func (c *client) Script(s *fanout.Script, prev *state.Snapshot) {}
func (c *client) Reaccess(why fanout.Reason)                    {}
func (c *client) Send(frame []byte)                             { fmt.Printf("%s < %s\n", c.name, frame) }

// A loop's hub subscribes once for all its clients, and encodes an event once.
func Example() {
	var m fanout.Metrics
	framers := fanout.Framers{fanout.Message: func(dst, message []byte) []byte { return append(dst, message...) }}
	hub := fanout.NewHub(shards{}, framers, new(pool.Arena), &m)

	a, b := &client{name: "a"}, &client{name: "b"}
	v := fanout.VariantOf(fanout.Message, false)
	hub.Join(a, a, v, "clock", "clock", "", nil)
	hub.Join(b, b, v, "clock", "clock", "", nil)

	// The source replies with updates that have the subscription's ref, here the first one.
	snap := state.NewModel([]res.Prop{{Key: "hour", Value: res.Value{Raw: "1"}}})
	hub.Apply(state.Update{Ref: 0, Kind: state.Loaded, Snapshot: snap})
	a.SetReady(true)
	b.SetReady(true)

	event, _ := snap.Change([]res.Prop{{Key: "hour", Value: res.Value{Raw: "2"}}})
	hub.Apply(state.Update{Ref: 0, Kind: state.Applied, Event: event})
	hub.EndTurn()

	hub.Leave(&a.Member)
	hub.Leave(&b.Member)
	fmt.Println(m.Deliveries.Load(), "deliveries,", m.Encodings.Load(), "encoding")
	// Output:
	// subscribe clock
	// a has {"hour":1}
	// b has {"hour":1}
	// a < {"event":"clock.change","data":{"values":{"hour":2}}}
	// b < {"event":"clock.change","data":{"values":{"hour":2}}}
	// unsubscribe clock
	// 2 deliveries, 1 encoding
}
