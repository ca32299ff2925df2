//go:build linux

package service

import (
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// With workers, replies come from them, and requests are counted; without, they come immediately.
func TestWork(t *testing.T) {
	var s NATS
	replied := 0
	s.answer(func() { replied++ }, nil)
	if replied != 1 {
		t.Fatal("a reply waits without workers")
	}
	s.got("t1") // not counted
	s.askedAccess("t1")
	s.Begin(Work{Workers: 2, Each: time.Millisecond})
	var replies sync.WaitGroup
	for i := range 10 {
		replies.Add(1)
		s.answer(replies.Done, func(w *workshop) *atomic.Int64 {
			if i < 4 {
				return &w.calls
			}
			return &w.access
		})
	}
	s.got("m1")
	s.askedAccess("m1")
	s.askedAccess("t1")
	replies.Wait()
	if topics := s.Asked().Topics; topics.Access != 1 || topics.Gets != 0 {
		t.Errorf("of topics: %+v", topics)
	}
	s.got("t1")
	if topics := s.Asked().Topics; topics.Access != 1 || topics.Gets != 1 {
		t.Errorf("of topics: %+v", topics)
	}
	if asked := s.Asked(); asked.Calls != 4 || asked.Access != 6 || asked.Gets != 2 {
		t.Errorf("before the end: %+v", asked)
	}
	done := s.End()
	if done.Calls != 4 || done.Access != 6 || done.Gets != 2 || done.Most < 2 || done.Most > 10 || done.Busy < 10*time.Millisecond {
		t.Errorf("%+v", done)
	}
	if again := s.End(); again != (Worked{}) || s.Asked() != again {
		t.Errorf("after the end: %+v", again)
	}
}

// A gateway that asks over HTTP may subscribe and gets results of calls.
func TestProxied(t *testing.T) {
	s := &Proxied{NATS: &NATS{}}
	for _, c := range []struct {
		body, want string
		status     int
	}{
		{`{"client":"c","channel":"load.t0"}`, `{"result":{}}`, 200},
		{`{"method":"echo","data":{"value":42}}`, `{"result":{"data":{"value":42}}}`, 200},
		{`no JSON`, "not understood", 400},
	} {
		w := httptest.NewRecorder()
		s.serve(w, httptest.NewRequest("POST", "/", strings.NewReader(c.body)))
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s: %d %s", c.body, w.Code, w.Body)
		}
	}
}
