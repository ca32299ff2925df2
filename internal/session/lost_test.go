package session

import (
	"strings"
	"testing"

	"sluice/internal/state"
)

// TestLostEventsOfALoop: custom events that an overloaded loop has not got are reported to the
// clients that asked for it, after the newest state and once.
func TestLostEventsOfALoop(t *testing.T) {
	w := newWorld(t, 1, Limits{})
	w.service["r.b"] = state.NewCollection(primitives(0, 3))
	a, slow := w.clients[0], w.clients[2]
	a.s.tellLost, slow.s.tellLost = true, true
	for _, c := range w.clients[:3] {
		c.request("subscribe", "r.b")
	}
	if err := w.settle(); err != nil {
		t.Fatal(err)
	}
	w.log.Reset()
	slow.s.Lag(true)
	w.service["r.b"] = state.NewCollection(primitives(0, 4))
	w.emit("r.b", state.Update{Kind: state.Synced, Snapshot: w.service["r.b"], Lost: 3})
	w.emit("r.b", state.Update{Kind: state.Applied, Event: state.NewCustom("ping", nil, w.service["r.b"])})
	for range 2 {
		w.deliver(0)
	}
	log := w.log.String()
	if strings.Contains(log, "C < ") {
		t.Errorf("a slow consumer got something\n%s", log)
	}
	slow.s.Lag(false)
	if err := w.settle(); err != nil {
		t.Fatal(err)
	}
	log = w.log.String()
	for _, who := range []string{"A", "C"} {
		add, lost, ping := strings.Index(log, who+` < {"event":"r.b.add"`), strings.Index(log, who+` < {"event":"r.b.eventsLost","data":{"count":3}}`),
			strings.Index(log, who+` < {"event":"r.b.ping"`)
		if add < 0 || lost < add || ping < lost || strings.Count(log, who+` < {"event":"r.b.eventsLost"`) != 1 {
			t.Errorf("%s is not told once, between the difference and the next event\n%s", who, log)
		}
	}
	if strings.Contains(log, `B < {"event":"r.b.eventsLost"`) {
		t.Errorf("B is told and has not asked\n%s", log)
	}
}

// TestBacklogDropsTheOldest: beyond twice the bound the oldest custom events go, and their number
// takes their place.
func TestBacklogDropsTheOldest(t *testing.T) {
	var l backlog
	var m Metrics
	snap := state.NewCollection(primitives(0, 1))
	for range 10 {
		l.push(state.NewCustom("x", nil, snap), 2, &m)
	}
	if len(l.queue) != 4 || l.lost != 6 || m.Lost.Load() != 6 || l.conflated {
		t.Errorf("%d queued, %d lost, %d counted, conflated: %v", len(l.queue), l.lost, m.Lost.Load(), l.conflated)
	}
	l.push(state.NewLost(5, snap), 2, &m) // it takes the place of one more
	if events := l.takeLost(nil); len(events) != 1 || events[0].Lost != 7 || string(events[0].Payload) != `{"count":7}` || l.lost != 0 {
		t.Errorf("told of %+v", events)
	}
	for range 4 { // a report that is dropped itself is added to the next one
		l.push(state.NewCustom("x", nil, snap), 2, &m)
	}
	if l.lost != 3+5 || m.Lost.Load() != 10 {
		t.Errorf("%d lost, %d counted", l.lost, m.Lost.Load())
	}
}
