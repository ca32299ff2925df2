package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"sluice/fanout"
	"sluice/internal/livetrace"
	"sluice/internal/res"
	"sluice/internal/session"
	"sluice/internal/upstream"
)

// The bounds of a trace, and what they are if a request does not say.
const (
	maxTraces = 4 // at a time

	defaultTraceSeconds, maxTraceSeconds = 60, 600
	defaultTraceRate, maxTraceRate       = 100, 1000
	defaultTraceBytes, maxTraceBytes     = 512, 4096
)

// writeTrace bounds the time in which a reader must take a line.
const writeTrace = 10 * time.Second

// traces are the traces that are on. Any goroutine may use it.
type traces struct {
	mu  sync.Mutex
	all []*livetrace.Trace
}

// trace streams what passes of a connection or of resources, one JSON object in each line. It
// answers until the trace ends, so it takes no slot of the questions.
func (s *Server) trace(w http.ResponseWriter, r *http.Request) {
	t, err := s.newTrace(r)
	if err == nil {
		err = s.findTarget(r, t)
	}
	if err == nil {
		err = s.startTrace(t)
	}
	if err != nil {
		fail(w, err)
		return
	}
	defer s.endTrace(t)
	s.log.Info("admin: trace started", "cid", t.Target().CID, "pattern", t.Target().Resources.String(), "by", r.RemoteAddr)
	w.Header().Set("Content-Type", "application/x-ndjson")
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Time{}) // else the context ends with the time for reading the request
	encode := json.NewEncoder(w)
	encode.SetEscapeHTML(false)
	_ = t.Run(r.Context(), func() string { return s.over(t) }, func(l *livetrace.Line) error {
		_ = c.SetWriteDeadline(time.Now().Add(writeTrace))
		if err := encode.Encode(l); err != nil {
			return err
		}
		return c.Flush()
	})
}

// newTrace reads what a request wants to be traced.
func (s *Server) newTrace(r *http.Request) (*livetrace.Trace, error) {
	q := r.URL.Query()
	o := livetrace.Options{Clock: s.clock, Target: livetrace.Target{CID: q.Get("cid")}}
	text := q.Get("resource")
	if (o.Target.CID == "") == (text == "") {
		return nil, refuse(http.StatusBadRequest, "either cid or resource must say what to trace: a connection ID, or a pattern of resource names such as library.>")
	}
	if text != "" {
		var ok bool
		if o.Target.Resources, ok = res.ParsePattern(text); !ok {
			return nil, refuse(http.StatusBadRequest, "resource must be a pattern of resource names, such as library.books or library.>")
		}
	}
	seconds, err := number(r, "seconds", defaultTraceSeconds, 1, maxTraceSeconds)
	if err != nil {
		return nil, err
	}
	o.For = time.Duration(seconds) * time.Second
	if o.Rate, err = number(r, "rate", defaultTraceRate, 1, maxTraceRate); err != nil {
		return nil, err
	}
	if o.Bytes, err = number(r, "bytes", defaultTraceBytes, 0, maxTraceBytes); err != nil {
		return nil, err
	}
	return livetrace.New(o, o.Clock.Wall()), nil
}

// findTarget returns an error if the connection to be traced is not open.
func (s *Server) findTarget(r *http.Request, t *livetrace.Trace) error {
	cid := t.Target().CID
	if cid == "" {
		return nil
	}
	who, l, err := s.findLoop(cid)
	if err != nil {
		return err
	}
	if who.Number > 0 {
		return refuse(http.StatusConflict, "%s is an HTTP request, which is over too soon: trace the resource", clip(cid))
	}
	ctx, cancel := context.WithTimeout(r.Context(), answerWithin)
	defer cancel()
	open, err := ask(ctx, l.Post, func() bool { return isOpen(l.Session(who)) })
	switch {
	case err != nil:
		return late("event loop", who.Loop)
	case !open:
		return notOpen(cid)
	}
	return nil
}

func isOpen(of *session.Session) bool { return of != nil && !of.Closed() }

// over returns why a trace ends before its time, "" if it does not. A loop that does not answer has
// other things to do.
func (s *Server) over(t *livetrace.Trace) string {
	cid := t.Target().CID
	if cid == "" {
		return ""
	}
	who, l, err := s.findLoop(cid)
	if err != nil {
		return err.Error()
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if open, err := ask(ctx, l.Post, func() bool { return isOpen(l.Session(who)) }); err == nil && !open {
		return "the connection is closed"
	}
	return ""
}

func (s *Server) startTrace(t *livetrace.Trace) error {
	s.traces.mu.Lock()
	defer s.traces.mu.Unlock()
	if len(s.traces.all) >= maxTraces {
		return refuse(http.StatusServiceUnavailable, "%d traces are on, which is the most: end one first", maxTraces)
	}
	s.traces.all = append(s.traces.all, t)
	s.tap(t)
	return nil
}

func (s *Server) endTrace(t *livetrace.Trace) {
	s.traces.mu.Lock()
	defer s.traces.mu.Unlock()
	s.traces.all = slices.DeleteFunc(slices.Clone(s.traces.all), func(x *livetrace.Trace) bool { return x == t })
	s.tap(t)
}

// tap makes the owners show to the traces that are on what they are to see, after changed has been
// started or ended. The lock is held, so that owners get the lists in their order.
func (s *Server) tap(changed *livetrace.Trace) {
	all := slices.Clone(s.traces.all)
	for _, l := range s.gw.Loops() {
		l.Post(func() { s.tapLoop(l, all, changed.Target().CID) })
	}
	byName := slices.DeleteFunc(slices.Clone(all), func(t *livetrace.Trace) bool { return t.Target().CID != "" })
	for i, shard := range s.gw.Shards() {
		shard.Cache.Run(func() { tapShard(shard, fmt.Sprintf("cache shard %d", i), byName) })
	}
}

// tapLoop sets what a loop shows to traces. It runs on the loop. cid is the connection that the
// trace is of that has been started or ended.
func (s *Server) tapLoop(l Loop, all []*livetrace.Trace, cid string) {
	if who, ok := s.gw.IDs.Parse(cid); ok && who.Number == 0 && who.Loop == l.Net.Index() {
		if of := l.Session(who); isOpen(of) {
			session.Tap(of, sent(of, loopName(l), slices.DeleteFunc(slices.Clone(all), func(t *livetrace.Trace) bool { return t.Target().CID != cid })))
		}
	}
	l.Env.Traced, l.Env.Hub.Traced, l.Out.Traced = nil, nil, nil
	if len(all) == 0 {
		return
	}
	name := loopName(l)
	l.Env.Traced = func(of *session.Session, r res.Request, err error) {
		resource, _ := res.SplitRID(r.RID)
		for _, t := range all {
			if t.Target().Match(of.CID(), resource) {
				t.Received(name, of.CID(), r, err)
			}
		}
	}
	l.Env.Hub.Traced = func(resource, query, event string, subscribers int) {
		for _, t := range all {
			if t.Target().Match("", resource) {
				t.Delivered(name, joinRID(resource, query), event, subscribers)
			}
		}
	}
	l.Out.Traced = func(of *session.Session, resource, subject string, payload []byte, done func([]byte, *res.Error)) func([]byte, *res.Error) {
		cid := ""
		if of != nil {
			cid = of.CID()
		}
		return request(all, name, cid, resource, subject, payload, done)
	}
}

func loopName(l Loop) string { return fmt.Sprintf("event loop %d", l.Net.Index()) }

func joinRID(name, query string) string {
	if query == "" {
		return name
	}
	return name + "?" + query
}

// sent returns what shows a client's messages to traces; nil if there are none.
func sent(of *session.Session, name string, to []*livetrace.Trace) func([]byte, bool) {
	if len(to) == 0 {
		return nil
	}
	stream, compressed := session.FormOf(of) == fanout.Stream, session.FormOf(of) == fanout.Deflated
	return func(text []byte, private bool) {
		for _, t := range to {
			t.Sent(name, of.CID(), text, stream, compressed, private)
		}
	}
}

// request shows a request to a service to the traces that it concerns, and later its reply, which
// the function that it returns passes on to done.
func request(all []*livetrace.Trace, name, cid, resource, subject string, payload []byte, done func([]byte, *res.Error)) func([]byte, *res.Error) {
	for _, t := range all {
		if !t.Target().Match(cid, resource) {
			continue
		}
		t.Requested(name, cid, resource, subject, payload)
		began, next := t.Now(), done
		done = func(data []byte, err *res.Error) {
			t.Replied(name, cid, resource, subject, began, data, err)
			next(data, err)
		}
	}
	return done
}

// tapShard sets what a shard shows to traces. It runs on the shard's goroutine.
func tapShard(shard *upstream.Shard, name string, all []*livetrace.Trace) {
	shard.Traced = nil
	shard.Cache.Trace(nil)
	if len(all) == 0 {
		return
	}
	shard.Traced = func(resource, subject string, payload []byte, done func([]byte, *res.Error)) func([]byte, *res.Error) {
		return request(all, name, "", resource, subject, payload, done)
	}
	shard.Cache.Trace(func(resource, event string, payload []byte) {
		for _, t := range all {
			if t.Target().Match("", resource) {
				t.Arrived(name, resource, event, payload)
			}
		}
	})
}
