//go:build linux

package service

import (
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"sluice/internal/natstest"
	"sluice/internal/resmodel"
)

// patience bounds waits that end early when all is well.
const patience = 30 * time.Second

// A service replies with what it says is true, counts calls, and publishes numbered ticks.
func TestServiceTellsTheTruth(t *testing.T) {
	bus := natstest.Start(t)
	gateway := bus.Client()
	ticks, err := gateway.SubscribeSync("event.s1.feed.0.tick")
	if err != nil {
		t.Fatal(err)
	}
	resets, err := gateway.SubscribeSync("system.reset")
	if err != nil {
		t.Fatal(err)
	}
	if err := gateway.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	commands, in := io.Pipe()
	out, replies := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- Worker(commands, replies) }()
	encoder, decoder := json.NewEncoder(in), json.NewDecoder(out)
	decoder.UseNumber()
	do := func(line any) Reply {
		t.Helper()
		if err := encoder.Encode(line); err != nil {
			t.Fatal(err)
		}
		var r Reply
		if err := decoder.Decode(&r); err != nil || r.Error != "" {
			t.Fatalf("%+v: %+v, %v", line, r, err)
		}
		return r
	}
	request := func(subject, payload string) string {
		t.Helper()
		m, err := gateway.Request(subject, []byte(payload), patience)
		if err != nil {
			t.Fatalf("%s: %v", subject, err)
		}
		return string(m.Data)
	}

	do(Config{Index: 1, Services: 2, URLs: []string{bus.URL()}, Seed: 5, Gen: 3, Groups: 2, Feeds: 1, Changes: 500, Ticks: 50})
	if m, err := resets.NextMsg(patience); err != nil || !strings.Contains(string(m.Data), `"s1.>"`) {
		t.Fatalf("no reset at the start: %v", err)
	}
	do(Command{Do: Run})
	for n := uint64(1); n <= 20; n++ {
		m, err := ticks.NextMsg(patience)
		var tick Tick
		if err != nil || json.Unmarshal(m.Data, &tick) != nil || tick.N != n || tick.Gen != 3 || tick.Time == 0 {
			t.Fatalf("tick %d: %+v, %v", n, tick, err)
		}
	}
	do(Command{Do: Quiet})
	for n, want := range []int64{0, 0, 1, 0} { // the third is a repetition
		c := []uint64{1, 3, 3, 2}[n]
		b, _ := json.Marshal(map[string]any{"params": Call{Client: 9, N: c}})
		before := do(Command{Do: Tell}).State.Repeated
		if got := request("call.s1.counter.add", string(b)); !strings.Contains(got, `"c":9`) {
			t.Errorf("call: %s", got)
		}
		if after := do(Command{Do: Tell}).State.Repeated; after-before != want {
			t.Errorf("call %d counts %d repetitions, want %d", c, after-before, want)
		}
	}
	state := do(Command{Do: Tell}).State
	if len(state.Resources) < 2*6+Leaves || len(state.Sliced) != Queries || state.Gen != 3 || state.Node != bus.URL() {
		t.Errorf("%+v", state)
	}
	for rid, value := range state.Resources {
		if got := request("get."+rid, "{}"); !strings.Contains(got, resmodel.Encode(value)) {
			t.Errorf("get.%s: %s, want %s", rid, got, resmodel.Encode(value))
		}
	}
	for _, name := range state.Denied {
		if got := request("access."+name, "{}"); !strings.Contains(got, `"get":false`) {
			t.Errorf("access.%s: %s", name, got)
		}
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("the service does not end with its input")
	}
}

func TestWindow(t *testing.T) {
	var w window
	for i, step := range []struct {
		n   uint64
		new bool
	}{{1, true}, {1, false}, {3, true}, {2, true}, {2, false}, {200, true}, {199, true}, {199, false}, {3, true}} {
		if got := w.execute(step.n); got != step.new {
			t.Errorf("step %d, call %d: new is %v", i, step.n, got)
		}
	}
}

func TestNames(t *testing.T) {
	for rid, want := range map[string]int{Leaf(Name(3), 1): 3, Query("s0", 1) + "?a": 0, "x.y": -1, "": -1} {
		if got := Of(rid); got != want {
			t.Errorf("%q is of service %d, want %d", rid, got, want)
		}
	}
}
