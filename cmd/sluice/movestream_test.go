//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"strings"
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
	beats int
	log   []string
}

func (w *world) listen(rid string) *listener {
	w.t.Helper()
	c, err := restest.DialHTTP(rid, w.l.addr, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(c.Cut)
	f := &listener{HTTP: c, view: resmodel.NewView(), rid: rid}
	f.view.Sent(fmt.Sprintf(`{"id":1,"method":"subscribe.%s"}`, rid))
	if err := c.Send("GET", "/api/"+strings.ReplaceAll(rid, ".", "/"), []string{"Accept: text/event-stream"}, ""); err != nil {
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
			Data  struct{ N int }
		}
		if json.Unmarshal([]byte(m), &e) == nil && e.Event == f.rid+".tick" {
			if f.ticks > 0 && e.Data.N != f.ticks+1 {
				w.t.Fatalf("stream of %s: custom event %d follows %d", f.rid, e.Data.N, f.ticks)
			}
			f.ticks = e.Data.N
		}
	}
	if f.Closed() {
		w.t.Fatalf("stream of %s is closed", f.rid)
	}
}

// While everything changes, event streams go over to new processes, with the WebSockets. They miss
// nothing, get nothing twice, and nothing is asked again for them.
func TestStreamsMove(t *testing.T) {
	w := newWorld(t, "loops: 2\nheartbeatInterval: 1s\n")
	w.begin()
	all := rids()
	var streams []*listener
	for i := range 12 {
		streams = append(streams, w.listen(all[i%len(all)]))
	}
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
			w.mu.Lock()
			defer w.mu.Unlock()
			want, _ := w.store.Value(f.rid)
			got, _ := f.view.Value(f.rid)
			return got == resmodel.Encode(want) && (f.ticks == 0 || f.ticks == w.ticks[f.rid])
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
