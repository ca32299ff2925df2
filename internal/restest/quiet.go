package restest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
)

// How quiet proves that nothing else was sent.
//
// All work for a resource passes through three kinds of owners: the NATS dispatcher, the resource's
// cache shard and the clients' event loops. Each handles its messages in order, and sends its NATS
// messages in the order of its loop iterations. So a round trip through the same owners, started
// after the cause, ends after the effect:
//
//  1. Every client sends an auth request for every resource name that the transcript has mentioned.
//     Auth needs no access. The service replies over the connection on which it published the
//     events before. The reply follows the events of that name through its shard to the client's
//     loop. After all replies, every event published before has reached every client.
//  2. The same again. A loop that such an event made to request access has sent that request before
//     the second auth request, and a loop that lost a subscription has notified the shard.
//  3. Once per name, a get of a query resource that never exists. The shard that owns the name
//     sends the get request, so every get request that it sent before has arrived. The reply is an
//     error, which the cache does not keep. While a query event waits for its replies, the shard
//     may defer this get: then "quiet auth" omits it.
//  4. A stream of server-sent events cannot send requests. So the runner publishes a custom event
//     of the stream's resource, and waits for it.
//
// An HTTP request in flight is on some event loop, perhaps one without any of the clients. Then
// requestProbes more clients make the round trips, which very likely reaches every loop.
//
// After that, a message that a client or the service received and no line expects is an error.

// requestProbes clients miss one of two loops in one of 65,536 cases.
const requestProbes = 16

// quiet settles, and fails if a message arrived that no line expects.
func (s *session) quiet(strong bool, extra []string) error {
	if err := s.settle(strong, extra); err != nil {
		return err
	}
	if all := s.unexpected(); len(all) > 0 {
		return fmt.Errorf("unexpected:\n%s", strings.Join(all, "\n"))
	}
	return nil
}

// settle makes the round trips.
func (s *session) settle(strong bool, extra []string) error {
	if s.deafAuth {
		return errors.New("quiet, advance and logs need a service that listens on auth.>")
	}
	for _, name := range extra {
		s.learnName(name)
	}
	names := s.names
	if len(names) == 0 {
		names = []string{"restest"}
	}
	var open []*Client
	for _, name := range s.order {
		if c := s.clients[name]; !s.ended[name] && !s.gone(c) {
			open = append(open, c)
		}
	}
	probes := 0
	switch {
	case slices.ContainsFunc(s.httpOrder, func(name string) bool { return s.https[name].Open() > 0 }):
		probes = requestProbes
	case len(open) == 0:
		probes = 1
	}
	for range probes {
		c, err := Dial(probe, s.gateway.URL(), s.notify)
		if err != nil {
			return err
		}
		defer c.Cut()
		open = append(open, c)
	}
	for range 2 {
		if err := s.roundTrip(open, names, func(name, id string) string { return "auth." + name + "." + quietMethod + id }); err != nil {
			return err
		}
	}
	if !strong {
		return nil
	}
	if err := s.roundTrip(open[:1], names, func(name, id string) string { return "get." + name + "?" + quietQuery + id }); err != nil {
		return err
	}
	return s.flushStreams()
}

// flushStreams sends a custom event on every open stream of a plain resource and waits for it.
func (s *session) flushStreams() error {
	for _, name := range s.httpOrder {
		h := s.https[name]
		rid := h.Streaming()
		if rid == "" || strings.Contains(rid, "?") {
			continue
		}
		event := rid + "." + quietMethod + s.hiddenID()
		if err := s.service.Publish("event."+event, ""); err != nil {
			return err
		}
		if !s.wait(func() bool { return h.saw(event) }) {
			return fmt.Errorf("the event of quiet was not received on the stream of http %s", name)
		}
	}
	return nil
}

// roundTrip sends one hidden request per client and name and waits for all responses, except those
// of clients whose connection ends while it waits.
func (s *sockets) roundTrip(clients []*Client, names []string, method func(name, id string) string) error {
	type trip struct {
		c  *Client
		id string
	}
	var trips []trip
	for _, c := range clients {
		for _, name := range names {
			t := trip{c, s.hiddenID()}
			if err := c.Send(`{"id":` + t.id + `,"method":"` + method(name, t.id) + `"}`); err != nil && !s.gone(c) {
				return err
			}
			trips = append(trips, t)
		}
	}
	if !s.wait(func() bool {
		trips = slices.DeleteFunc(trips, func(t trip) bool { return t.c.answered(t.id) || s.gone(t.c) })
		return len(trips) == 0
	}) {
		return fmt.Errorf("the round trip of quiet did not end: %d requests such as %s are open",
			len(trips), method(names[0], trips[0].id))
	}
	return nil
}

// learnCID finds out a client's connection ID with a hidden auth request.
func (s *session) learnCID(client string) (string, error) {
	c := s.clients[client]
	if c == nil {
		return "", fmt.Errorf("client %s is not connected", client)
	}
	id := s.hiddenID()
	if err := c.Send(`{"id":` + id + `,"method":"auth.restest.` + quietMethod + id + `"}`); err != nil {
		return "", err
	}
	if !s.wait(func() bool { return c.answered(id) }) || s.service.cid(id) == "" {
		return "", fmt.Errorf("the connection ID of client %s did not show up", client)
	}
	return s.service.cid(id), nil
}

// logBook keeps log records as text. Any goroutine may use it.
type logBook struct {
	mu      sync.Mutex
	records []string
}

// Enabled implements slog.Handler: everything is kept.
func (l *logBook) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (l *logBook) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", r.Level, r.Message)
	r.Attrs(func(a slog.Attr) bool { fmt.Fprintf(&b, " %s=%v", a.Key, a.Value); return true })
	l.mu.Lock()
	l.records = append(l.records, b.String())
	l.mu.Unlock()
	return nil
}

// WithAttrs implements slog.Handler; attributes of the logger are not kept.
func (l *logBook) WithAttrs([]slog.Attr) slog.Handler { return l }

// WithGroup implements slog.Handler; groups are not kept.
func (l *logBook) WithGroup(string) slog.Handler { return l }

func (l *logBook) count(text string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.records {
		if strings.Contains(r, text) {
			n++
		}
	}
	return n
}

func (l *logBook) last(n int) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.records[max(0, len(l.records)-n):])
}
