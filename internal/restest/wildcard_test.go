package restest

import (
	"strings"
	"testing"
	"time"

	"sluice/gateway"
)

// After a loss of NATS the wildcards are there again, and with them the events of all resources
// below them: of those that were cached before, and of those that come afterwards.
func TestWildcardsAfterAnOutage(t *testing.T) {
	for _, patterns := range []string{"test.>", ">", "test.* *.a test.>"} {
		t.Run(patterns, func(t *testing.T) {
			o := newOutage(t, func(c *gateway.Config) { c.NATSWildcards = strings.Fields(patterns) })
			c := o.subscribed()
			o.ns.Stop()
			o.says("clients are kept")
			o.mu.Lock()
			o.models["test.a"] = `{"n":2}`
			o.mu.Unlock()
			o.ns.Start()
			o.says("connection to NATS restored")
			if m, want := o.next(c, o.clock), `{"event":"test.a.change","data":{"values":{"n":2}}}`; !sameJSON(m, want) {
				t.Fatalf("got %s, want %s", m, want)
			}
			o.until("the service is back", o.clock, func() bool {
				if err := c.Send(`{"id":4,"method":"subscribe.test.b"}`); err != nil {
					t.Fatal(err)
				}
				return strings.Contains(o.next(c, o.clock), `"n":4`)
			})
			has := subscribed(o.ns.Server())
			want := map[string]bool{"event.test.a.*": false, "event.test.b.*": false, "event.test.secret.*": false}
			for _, p := range strings.Fields(patterns) {
				if strings.HasSuffix(p, ">") {
					want["event."+p] = true
				} else {
					want["event."+p+".*"] = true
				}
			}
			for subject, want := range want {
				if has(subject) != want {
					t.Errorf("NATS has a subscription to %s: %v, want %v", subject, !want, want)
				}
			}
			service := o.ns.Client()
			for _, rid := range []string{"test.a", "test.b", "test.none"} {
				if err := service.Publish("event."+rid+".change", []byte(`{"values":{"n":9}}`)); err != nil {
					t.Fatal(err)
				}
			}
			got := o.next(c, o.clock) + o.next(c, o.clock)
			if !strings.Contains(got, `"test.a.change"`) || !strings.Contains(got, `"test.b.change"`) {
				t.Errorf("got %s", got)
			}
		})
	}
}

// A pattern that is none ends the start, with a message that says what to write.
func TestWrongWildcards(t *testing.T) {
	for _, pattern := range []string{"test", "test..>", "test.>.a", "test.a*", " ", "test.>?q"} {
		_, err := startGateway(Start{NATS: "nats://127.0.0.1:1"}, func(c *gateway.Config) {
			c.NATSWildcards, c.NATSTimeout = []string{"ticker.>", pattern}, 100*time.Millisecond
		})
		if err == nil || !strings.Contains(err.Error(), "not a pattern of resource names: write one such as ticker.>") {
			t.Errorf("%q: %v", pattern, err)
		}
	}
}
