package restest

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"sluice/gateway"
	"sluice/internal/natstest"
	"sluice/internal/owner"
)

// deny makes a server whose gateway may not subscribe to some subjects.
func deny(subjects ...string) func(*server.Options) {
	return func(o *server.Options) {
		o.Users = []*server.User{
			{Username: "gateway", Password: "x", Permissions: &server.Permissions{Subscribe: &server.SubjectPermission{Deny: subjects}}},
			{Username: "service", Password: "x"},
		}
	}
}

// newRestricted is newOutage with a gateway that NATS does not permit everything.
func newRestricted(t *testing.T, change func(*server.Options)) *outage {
	o := &outage{t: t, ns: natstest.Start(t, change), clock: owner.NewManualClock(), news: make(chan struct{}, 1),
		models: map[string]string{"test.a": `{"n":1}`, "test.secret": `{"word":"x"}`}, denied: map[string]bool{}}
	nc := o.ns.Client(nats.UserInfo("service", "x"))
	if _, err := nc.Subscribe("*.test.*", o.serve); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	url := strings.Replace(o.ns.URL(), "nats://", "nats://gateway:x@", 1)
	g, err := startGateway(Start{NATS: url, Clock: o.clock, Log: slog.New(o)}, func(c *gateway.Config) { c.PingInterval = gateway.Off })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Stop)
	o.url = g.URL()
	return o
}

const refusedSecret = `"error":{"code":"system.internalError","message":"NATS refuses the subscription to event.test.secret.*"}`

// A resource whose events NATS refuses is not served, and neither is one from the cache once the
// permission is taken away. It is served again when NATS permits it.
func TestRefusedResourceIsNotServed(t *testing.T) {
	o := newRestricted(t, deny("event.test.secret.*"))
	c, err := o.dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Cut)
	ask := func(m string) string {
		t.Helper()
		if err := c.Send(m); err != nil {
			t.Fatal(err)
		}
		return o.next(c, nil)
	}
	for range 3 { // the second one finds NATS's answer still standing
		if m := ask(`{"id":1,"method":"subscribe.test.secret"}`); !strings.Contains(m, refusedSecret) {
			t.Fatal(m)
		}
	}
	if m := ask(`{"id":2,"method":"subscribe.test.a"}`); !strings.Contains(m, `"n":1`) {
		t.Fatal(m)
	}
	if status, body := o.get("/api/test/secret"); status != 500 || !strings.Contains(body, "NATS refuses the subscription") {
		t.Fatalf("HTTP: %d %s", status, body)
	}
	if status, body := o.get("/readyz"); status != 200 {
		t.Fatalf("ready: %d %s", status, body)
	}

	o.ns.Reload(deny("event.test.a.*"))
	if m := o.next(c, nil); m != `{"event":"test.a.unsubscribe","data":{"reason":{"code":"system.internalError","message":"NATS refuses the subscription to event.test.a.*"}}}` {
		t.Fatal(m)
	}
	o.until("the secret is served again", o.clock, func() bool {
		return strings.Contains(ask(`{"id":3,"method":"subscribe.test.secret"}`), `"word":"x"`)
	})
}

// A gateway that NATS does not permit its inbox starts, logs that, and fails requests.
func TestInboxIsRefused(t *testing.T) {
	o := newRestricted(t, deny("_INBOX.>"))
	o.says("NATS cannot be used")
	if status, body := o.get("/readyz"); status != 503 || body != "NATS refuses the subscription to _INBOX.>\n" {
		t.Fatalf("ready: %d %s", status, body)
	}
	if status, body := o.get("/api/test/a"); status != 500 || !strings.Contains(body, "_INBOX.>") {
		t.Fatalf("HTTP: %d %s", status, body)
	}
}

// get makes a request on HTTP.
func (o *outage) get(path string) (int, string) {
	o.t.Helper()
	resp, err := http.Get(strings.TrimSuffix(strings.Replace(o.url, "ws://", "http://", 1), "/") + path)
	if err != nil {
		o.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		o.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}
