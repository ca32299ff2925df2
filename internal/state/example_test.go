package state_test

import (
	"fmt"

	"sluice/internal/res"
	"sluice/internal/state"
)

// A shard applies each event of a service to its newest snapshot. Older snapshots stay valid, so a
// slow consumer is brought up to date with the diff between the snapshot it holds and the newest.
func Example() {
	var parser res.Parser
	reply, failed := parser.Get([]byte(`{"result":{"collection":["a","b","c"]}}`))
	if failed != nil {
		panic(failed)
	}
	held := state.NewCollection(reply.Values)

	newest := held
	for _, edit := range []func(*state.Snapshot) (*state.Event, error){
		func(s *state.Snapshot) (*state.Event, error) { return s.Remove(0) },
		func(s *state.Snapshot) (*state.Event, error) {
			return s.Add(2, res.Value{Kind: res.Primitive, Raw: `"d"`})
		},
		func(s *state.Snapshot) (*state.Event, error) {
			return s.Add(3, res.Value{Kind: res.Primitive, Raw: `"e"`})
		},
		func(s *state.Snapshot) (*state.Event, error) { return s.Remove(2) },
	} {
		event, err := edit(newest)
		if err != nil {
			panic(err)
		}
		newest = event.Next
	}
	fmt.Printf("held   %s\nnewest %s\n", held.JSON(false), newest.JSON(false))

	events, err := state.Diff(held, newest)
	if err != nil {
		panic(err)
	}
	for _, e := range events {
		fmt.Printf("%s %s}\n", e.Kind, e.AppendData(nil, false))
	}
	// Output:
	// held   ["a","b","c"]
	// newest ["b","c","e"]
	// remove {"idx":0}
	// add {"idx":2,"value":"e"}
}
