package natsbus

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"sluice/internal/natstest"
	"sluice/internal/secret"
)

// permit makes a server whose clients may subscribe to what is given only, and publish everything.
func permit(allow, deny []string) func(*server.Options) {
	return func(o *server.Options) {
		o.Users = []*server.User{
			{Username: "gateway", Password: "x", Permissions: &server.Permissions{Subscribe: &server.SubjectPermission{Allow: allow, Deny: deny}}},
			{Username: "service", Password: "x"},
		}
	}
}

// as returns the server's address for a user.
func as(s *natstest.Server, user string) string {
	return strings.Replace(s.URL(), "nats://", "nats://"+user+":x@", 1)
}

// restricted connects a bus that may not subscribe to what is denied.
func restricted(t *testing.T, allow, deny []string, change ...func(*harness, *Options)) *harness {
	t.Helper()
	h := &harness{t: t, nats: natstest.Start(t, permit(allow, deny))}
	h.connect(append([]func(*harness, *Options){func(h *harness, o *Options) { o.URL = secret.URLs(as(h.nats, "gateway")) }}, change...)...)
	return h
}

// answering answers every request.
func (h *harness) answering() *nats.Conn {
	h.t.Helper()
	nc := h.nats.Client(nats.UserInfo("service", "x"))
	if _, err := nc.Subscribe("get.>", func(m *nats.Msg) { _ = m.Respond([]byte("{}")) }); err != nil {
		h.t.Fatal(err)
	}
	h.flush(nc)
	return nc
}

// get subscribes to a resource and asks for it, as a shard does.
func (h *harness) get(name string) *outcome {
	h.t.Helper()
	if err := h.caller.Subscribe(name); err != nil {
		h.t.Fatal(err)
	}
	return h.request(name, "get."+name, "{}")
}

// until lets the publisher go on until cond holds.
func (h *harness) until(cond func() bool) {
	h.t.Helper()
	for range 10_000 {
		if cond() {
			return
		}
		h.stepPublisher()
	}
	h.t.Fatal("it does not come true")
}

// A refusal comes before the reply to the get that follows the subscription, so nobody takes the
// resource for live. Asked again, NATS decides again.
func TestRefusalComesBeforeTheReply(t *testing.T) {
	h := restricted(t, nil, []string{"event.secret.>"})
	service := h.answering()
	for round := range 200 {
		name := fmt.Sprint("secret.n", round)
		if round%2 == 1 {
			name = fmt.Sprint("public.n", round)
		}
		o := h.get(name)
		h.caller.Flush()
		i := h.next("refused", "reply")
		if round%2 == 0 {
			if i.kind != "refused" || i.name != name || i.data != "NATS refuses the subscription to event."+name+".*" {
				t.Fatalf("round %d: %v", round, i)
			}
			i = h.next("reply", "refused")
		}
		if i.kind != "reply" || o.data != "{}" {
			t.Fatalf("round %d: %v, %v", round, i, o.err)
		}
	}
	m := h.bus.Metrics()
	if m.Refused.Load() != 100 || m.Disconnects.Load() != 0 {
		t.Fatalf("refused %d, lost %d", m.Refused.Load(), m.Disconnects.Load())
	}
	h.nats.Reload(permit(nil, []string{"event.other.>"}))
	o := h.get("secret.n0")
	h.caller.Flush()
	h.finish(o)
	h.publish(service, "event.secret.n0.x", "1")
	h.want("event", "event secret.n0.x 1")
}

// An operator takes a permission away: who has been subscribed hears of it at once.
func TestRevokedSubscription(t *testing.T) {
	h := restricted(t, nil, []string{"event.other.>"})
	h.answering()
	a, b := h.get("a"), h.get("b")
	h.caller.Flush()
	h.finish(a)
	h.finish(b)
	h.nats.Reload(permit(nil, []string{"event.a.>"}))
	if i := h.next("refused"); i.name != "a" {
		t.Fatal(i)
	}
	h.stepPublisher()
	if n := h.bus.Metrics().Subscriptions.Load(); n != 1 {
		t.Fatalf("subscriptions: %d", n)
	}
	// nats.go repeats subscriptions after a cut, not the one that was refused.
	h.nats.Cut("sluice")
	h.restored()
	h.stepPublisher()
	if n := h.bus.Metrics().Refused.Load(); n != 1 {
		t.Fatalf("refused: %d", n)
	}
}

// received returns the names of which events have arrived that nc has published.
func (h *harness) received(nc *nats.Conn) (names []string) {
	h.t.Helper()
	h.flush(nc)
	o := h.request("last", "get.last", "")
	h.caller.Flush()
	for o.calls == 0 {
		if i := h.next("event", "reply"); i.kind == "event" {
			names = append(names, i.name)
		}
	}
	return names
}

// wantEvents publishes an event of each of the resources n0, n1, … and wants those of all that are
// not gone. It returns the publisher and the names whose events were received.
func (h *harness) wantEvents(names int, gone map[string]bool) (nc *nats.Conn, live []string) {
	h.t.Helper()
	nc = h.nats.Client()
	for n := range names {
		name := fmt.Sprint("n", n)
		h.publish(nc, "event."+name+".x", "")
		if !gone[name] {
			live = append(live, name)
		}
	}
	if got := h.received(nc); !slices.Equal(got, live) {
		h.t.Fatalf("events of %v, want %v", got, live)
	}
	return nc, live
}

// The server does not say which subscriptions are too many. Each resource is either refused or gets
// its events; none looks live without.
func TestTooManySubscriptions(t *testing.T) {
	const limit, names = 30, 40
	for _, batch := range []int{1, 7, names} {
		t.Run(fmt.Sprint(batch), func(t *testing.T) {
			h := &harness{t: t, nats: natstest.Start(t, func(o *server.Options) { o.MaxSubs = limit })}
			h.connect()
			h.answering()
			gone := make(map[string]bool)
			for n := 0; n < names; n += batch {
				var all []*outcome
				for i := n; i < min(n+batch, names); i++ {
					all = append(all, h.get(fmt.Sprint("n", i)))
				}
				h.caller.Flush()
				for left := len(all); left > 0; {
					if i := h.next("reply", "refused"); i.kind == "refused" {
						gone[i.name] = true
					} else {
						left--
					}
				}
			}
			if want := names - (limit - len(h.bus.links[0].base.subjects) - 1); len(gone) != want {
				t.Fatalf("refused: %d, want %d", len(gone), want)
			}
			nc, live := h.wantEvents(names, gone)
			// One goes: there is room for another.
			if err := h.caller.Unsubscribe(live[0]); err != nil {
				t.Fatal(err)
			}
			o := h.get("late")
			h.caller.Flush()
			h.finish(o)
			h.publish(nc, "event.late.x", "")
			h.want("event", "event late.x ")
		})
	}
}

// After a cut, nats.go repeats the subscriptions in no particular order, and the server may accept
// fewer than before. Each name is refused or has its events.
func TestTooManySubscriptionsAfterACut(t *testing.T) {
	const names = 40
	h := &harness{t: t, nats: natstest.Start(t)}
	h.connect()
	h.answering()
	for n := range names {
		o := h.get(fmt.Sprint("n", n))
		h.caller.Flush()
		h.finish(o)
	}
	h.nats.Stop()
	h.nats.Change(func(o *server.Options) { o.MaxSubs = 30 })
	h.nats.Start()
	h.restored()
	gone := make(map[string]bool)
	for len(gone) < names-26 {
		gone[h.next("refused").name] = true
	}
	h.sync()
	h.wantEvents(names, gone)
}

// Without its inbox a bus is of no use: it says so, its requests fail at once, and it comes to life
// when the permission is there.
func TestInboxIsRefused(t *testing.T) {
	var log bytes.Buffer
	h := restricted(t, nil, []string{"_INBOX.>"}, func(_ *harness, o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	h.answering()
	o := h.get("a")
	h.caller.Flush()
	h.finish(o)
	if err := h.bus.Ready(); !errors.Is(o.err, ErrRefused) || err == nil || err.Error() != "NATS refuses the subscription to _INBOX.>" {
		t.Fatalf("request: %v; ready: %v", o.err, err)
	}
	h.nats.Reload(permit(nil, []string{"event.other.>"}))
	h.want("signal", "signal 0 gap")
	if err := h.bus.Ready(); err != nil {
		t.Fatal(err)
	}
	o = h.request("a", "get.a", "{}")
	h.caller.Flush()
	h.finish(o)
	if o.err != nil {
		t.Fatal(o.err)
	}
	h.bus.Close()
	if !strings.Contains(log.String(), "reason=\"NATS refuses the subscription to _INBOX.>\"") {
		t.Fatalf("log: %s", &log)
	}
}

// A gateway may lack the permission to publish to inboxes, and need not have it.
func TestInboxMayNotBePublishedTo(t *testing.T) {
	h := &harness{t: t, nats: natstest.Start(t, func(o *server.Options) {
		permit(nil, []string{"event.secret.>"})(o)
		o.Users[0].Permissions.Publish = &server.SubjectPermission{Allow: []string{"get.>"}}
	})}
	h.connect(func(h *harness, o *Options) { o.URL = secret.URLs(as(h.nats, "gateway")) })
	h.answering()
	h.until(func() bool { return h.bus.Ready() == nil })
	o := h.get("secret.a")
	h.caller.Flush()
	if i := h.next("refused", "reply"); i.kind != "refused" {
		t.Fatal(i, o.err)
	}
	if n := h.bus.Metrics().Forbidden.Load(); n != 0 {
		t.Fatalf("forbidden: %d", n)
	}
}

// A permission that is taken away from what the link cannot do without is noticed, and its return
// as well.
func TestSystemEventsAreRevoked(t *testing.T) {
	h := restricted(t, nil, []string{"event.other.>"})
	h.until(func() bool { return h.bus.Ready() == nil })
	h.nats.Reload(permit(nil, []string{"system.>"}))
	h.until(func() bool { return h.bus.Ready() != nil })
	if err := h.bus.Ready(); err == nil || !strings.Contains(err.Error(), "system.>") {
		t.Fatalf("ready: %v", err)
	}
	h.nats.Reload(permit(nil, []string{"event.other.>"}))
	h.want("signal", "signal 0 gap")
	if err := h.bus.Ready(); err != nil {
		t.Fatal(err)
	}
}
