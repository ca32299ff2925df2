//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"sluice/internal/resmodel"
	"sluice/internal/restest"
	"sluice/internal/testkit"
)

// listener is the client of an event stream, which folds what it gets, and counts custom events.
type listener struct {
	*restest.HTTP
	view  *resmodel.View
	rid   string
	begun bool
	ticks int // the newest
	had   int // custom events
	lost  int // custom events, as the gateway says
	gap   int // those lost since the newest
	beats int
	log   []string
}

func (w *world) listen(rid string) *listener {
	w.t.Helper()
	return w.listenWith(rid, "", nil)
}

// listenWith has a query that is no part of the resource ID. arrived is called after each message;
// nothing is read until it returns.
func (w *world) listenWith(rid, query string, arrived func()) *listener {
	w.t.Helper()
	c, err := restest.DialHTTP(rid, w.l.addr, arrived)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(c.Cut)
	f := &listener{HTTP: c, view: resmodel.NewView(), rid: rid}
	w.streams = append(w.streams, f)
	f.view.Sent(fmt.Sprintf(`{"id":1,"method":"subscribe.%s"}`, rid))
	if err := c.Send("GET", "/api/"+strings.ReplaceAll(rid, ".", "/")+query, []string{"Accept: text/event-stream"}, ""); err != nil {
		w.t.Fatal(err)
	}
	testkit.Until(w.t, rid+": the stream begins", func() bool {
		w.follow(f)
		return f.begun
	})
	return f
}

// follow takes what a stream's client has received.
func (w *world) follow(f *listener) {
	w.t.Helper()
	for {
		m, ok := f.NextMessage()
		if !ok {
			break
		}
		f.log = append(f.log, m)
		if strings.HasPrefix(m, ":") {
			f.beats++
			continue
		}
		if !f.begun {
			f.begun = true
			m = `{"id":1,"result":` + m + `}`
		}
		if err := f.view.Received(m); err != nil {
			w.t.Fatalf("stream of %s: %v\n%s", f.rid, err, strings.Join(f.log[max(len(f.log)-40, 0):], "\n"))
		}
		var e struct {
			Event string
			Data  struct{ N, Count int }
		}
		if json.Unmarshal([]byte(m), &e) != nil {
			continue
		}
		switch e.Event {
		case f.rid + ".tick":
			if f.ticks > 0 && e.Data.N != f.ticks+1+f.gap {
				w.t.Fatalf("stream of %s: custom event %d follows %d, and %d are said to be lost", f.rid, e.Data.N, f.ticks, f.gap)
			}
			f.ticks, f.gap = e.Data.N, 0
			f.had++
		case f.rid + ".eventsLost":
			f.gap += e.Data.Count
			f.lost += e.Data.Count
		}
	}
	if f.Closed() && !w.mayEnd {
		w.t.Fatalf("stream of %s is closed", f.rid)
	}
}

// isSame reports whether a stream has what the service has.
func (w *world) isSame(f *listener) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	want, _ := w.store.Value(f.rid)
	got, _ := f.view.Value(f.rid)
	return got == resmodel.Encode(want)
}

// isNewest reports whether a stream has the newest custom event, too.
func (w *world) isNewest(f *listener) bool {
	w.mu.Lock()
	ticks := w.ticks[f.rid]
	w.mu.Unlock()
	return f.ticks == ticks && w.isSame(f)
}

// While everything changes, event streams go over to new processes, with the WebSockets. They miss
// nothing, get nothing twice, and nothing is asked again for them.
func TestStreamsMove(t *testing.T) {
	w := newWorld(t, "loops: 2\nheartbeatInterval: 1s\n")
	w.begin()
	all := rids()
	for i := range 12 {
		w.listen(all[i%len(all)])
	}
	streams := w.streams
	for i := range 4 {
		w.client(all[i])
	}
	asked := w.asked()
	for round := range 3 {
		if out := w.upgrade(round + 1); !strings.Contains(out, "4 WebSockets have moved, and 12 event streams") {
			t.Errorf("round %d: %s", round, out)
		}
		for _, f := range streams {
			w.follow(f)
		}
	}
	w.rest()
	for _, f := range streams {
		testkit.Until(t, f.rid+": it has all changes", func() bool {
			w.follow(f)
			return w.isNewest(f) || f.ticks == 0 && w.isSame(f)
		})
	}
	if n := w.asked(); n != asked {
		t.Errorf("%d access requests after an upgrade", n-asked)
	}
	for _, f := range streams { // also now that nothing else is sent
		beats := f.beats
		testkit.Until(t, f.rid+": a heartbeat", func() bool {
			w.follow(f)
			return f.beats > beats
		})
	}
	// The gateway ends a stream as before, with the event that says why.
	w.mu.Lock()
	w.store.Deny(streams[0].rid, true)
	w.mu.Unlock()
	if err := w.nc.Publish("event."+streams[0].rid+".reaccess", nil); err != nil {
		t.Fatal(err)
	}
	testkit.Until(t, "its stream ends", func() bool { return streams[0].Closed() })
	last := ""
	for m, ok := streams[0].NextMessage(); ok; m, ok = streams[0].NextMessage() {
		last = m
	}
	if !strings.Contains(last, "unsubscribe") {
		t.Errorf("the last message is %s", last)
	}
}

// A stream that is not read lags behind, and moves so: with output that the socket has not taken,
// the difference that it is to get, and the number of custom events that were dropped. Read again
// it has all of that once, and what came after the upgrade.
func TestLaggingStreamMoves(t *testing.T) {
	w := newWorld(t, "loops: 2\nheldEvents: 4\nslowTimeout: 10m\n")
	w.store.Set(bigRID, map[string]any{"n": 0.0})
	reader := w.bigClient("reader", nil)
	var reading sync.RWMutex // locked: the stream is not read
	f := w.listenWith(bigRID, "?eventsLost=true", func() {
		reading.RLock()
		defer reading.RUnlock()
	})
	if err := f.Shrink(); err != nil {
		t.Fatal(err)
	}
	change := func() {
		t.Helper()
		w.grow(reader, 1)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.ticks[bigRID]++
		_ = w.nc.Publish("event."+bigRID+".tick", []byte(fmt.Sprintf(`{"n":%d,"text":%q}`, w.ticks[bigRID], strings.Repeat("y", 3*bigValue))))
	}
	change()
	func() {
		reading.Lock()
		defer reading.Unlock()
		for n := 0; !w.measures(`sluice_events_lost_total{where="session"} [1-9]`); n++ {
			if n == 2000 {
				t.Fatal("no custom event is dropped for a stream that is not read")
			}
			change()
		}
		upgrades := 1
		if *long {
			upgrades = 5
		}
		for round := range upgrades {
			if out := w.upgrade(round + 1); !strings.Contains(out, "1 WebSockets have moved, and 1 event streams") {
				t.Error(out)
			}
			for range 10 {
				change()
			}
		}
		if !w.lagging() {
			t.Error("a stream that is not read does not lag in the new process")
		}
	}()
	testkit.Until(t, "the stream has all", func() bool {
		w.follow(f)
		return w.isNewest(f)
	})
	change()
	testkit.Until(t, "the stream goes on", func() bool {
		w.follow(f)
		return w.isNewest(f)
	})
	if f.lost == 0 || f.had+f.lost != w.ticks[bigRID] {
		t.Errorf("the stream has %d custom events, and %d are said to be lost; there were %d", f.had, f.lost, w.ticks[bigRID])
	}
}
