package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/nats-io/nats.go"

	"sluice/internal/natstest"
	"sluice/internal/owner"
	"sluice/internal/owners"
	"sluice/internal/secret"
	"sluice/internal/testkit"
	"sluice/netpoll"
)

// present is a gateway with connection events, and all that passes its NATS server.
type present struct {
	*live
	wire chan *nats.Msg
}

func startPresent(t *testing.T, change func(*Config)) *present {
	t.Helper()
	p := &present{}
	p.live = startLive(t, func(c *Config) {
		c.ConnectionEvents, c.GatewayID, c.GatewayHeartbeat = true, "one", time.Hour
		c.CloseTimeout = 100 * time.Millisecond
		if change != nil {
			change(c)
		}
	})
	p.wire = watchWire(t, p.nc)
	p.serve("access.test.>", always(`{"result":{"get":true,"call":"*"}}`))
	p.serve("access.denied", always(`{"error":{"code":"system.accessDenied","message":"Access denied"}}`))
	p.serve("get.test.>", always(`{"result":{"model":{"n":1}}}`))
	p.serve("call.test.>", always(`{"result":null}`))
	return p
}

// watchWire returns what passes a NATS server, in the order of one connection.
func watchWire(t *testing.T, nc *nats.Conn) chan *nats.Msg {
	t.Helper()
	wire := make(chan *nats.Msg, 1<<16)
	if _, err := nc.ChanSubscribe(">", wire); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return wire
}

// event is a connection event.
type event struct {
	CID, Kind string
	data      map[string]any
}

// eventOf reads a connection event.
func eventOf(m *nats.Msg) (e event, ok bool) {
	rest, ok := strings.CutPrefix(m.Subject, "conn.")
	if !ok {
		return e, false
	}
	e.CID, e.Kind, _ = strings.Cut(rest, ".")
	return e, json.Unmarshal(m.Data, &e.data) == nil && e.Kind != "token"
}

// next returns the next connection event.
func (p *present) next() event {
	p.tb.Helper()
	for {
		if e, ok := eventOf(testkit.Await(p.tb, p.wire, "a connection event")); ok {
			return e
		}
	}
}

// opened returns the connect event of a client that has just connected.
func (p *present) opened() event {
	p.tb.Helper()
	e := p.next()
	if e.Kind != "connect" {
		p.tb.Fatalf("got %v", e)
	}
	return e
}

// stream begins a stream of server-sent events and returns the status of its response.
func (p *present) stream(path string, head ...string) (net.Conn, *bufio.Reader, int) {
	p.tb.Helper()
	c, err := net.Dial("tcp", p.Addr().String())
	if err != nil {
		p.tb.Fatal(err)
	}
	p.tb.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(testkit.Patience))
	fmt.Fprintf(c, "GET /api/%s HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n%s\r\n", path, strings.Join(head, "\r\n"))
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		p.tb.Fatal(err)
	}
	return c, r, resp.StatusCode
}

// TestPresenceReasons ends connections in all ways that this package can cause.
func TestPresenceReasons(t *testing.T) {
	closeWith := func(c *wsClient, code ws.StatusCode) {
		f := ws.MaskFrameInPlace(ws.NewCloseFrame(ws.NewCloseFrameBody(code, "")))
		if err := ws.WriteFrame(c.conn, f); err != nil {
			t.Error(err)
		}
	}
	// onConn runs f with a client's connection on its loop.
	onConn := func(p *present, e event, f func(c *netpoll.Conn)) {
		who, ok := p.ids.Parse(e.CID)
		if !ok {
			t.Fatalf("the cid %q is not this gateway's", e.CID)
		}
		p.owners.EachLoop(func(l *owners.Loop) {
			l.Post(func() {
				if c := l.Net.Conn(who.Conn); c != nil {
					f(c)
				}
			})
		})
	}
	p := startPresent(t, nil)
	for _, tc := range []struct {
		name, reason string
		code         any // of the event; nil: none
		end          func(c *wsClient, e event)
	}{
		{"close frame", "client", 1000.0, func(c *wsClient, _ event) { closeWith(c, 1000) }},
		{"own code", "client", 4321.0, func(c *wsClient, _ event) { closeWith(c, 4321) }},
		{"gone", "client", 1006.0, func(c *wsClient, _ event) { _ = c.conn.Close() }},
		{"protocol", "protocol", 1002.0, func(c *wsClient, _ event) { _ = ws.WriteFrame(c.conn, ws.NewTextFrame([]byte("not masked"))) }},
		{"panic", "fault", 1011.0, func(_ *wsClient, e event) { onConn(p, e, func(c *netpoll.Conn) { c.Fault() }) }},
		{"operator", "operator", 1008.0, func(_ *wsClient, e event) {
			onConn(p, e, func(c *netpoll.Conn) { netpoll.Because(c, netpoll.CauseOperator); c.Close(1008, "") })
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := p.dial()
			before := p.opened()
			c.ask("version", `{"protocol":"1.2.3"}`)
			tc.end(c, before)
			after := p.next()
			_ = c.conn.Close()
			if after.Kind != "disconnect" || after.CID != before.CID || after.data["reason"] != tc.reason || after.data["code"] != tc.code || after.data["protocol"] != "1.2.3" {
				t.Errorf("got %v after %v", after, before)
			}
			for _, e := range []event{before, after} {
				if e.data["gid"] != "one" || e.data["instance"] != p.ids.Prefix() || e.data["remoteAddr"] != c.conn.LocalAddr().String() || e.data["transport"] != "websocket" {
					t.Errorf("got %v", e)
				}
			}
			if _, has := before.data["protocol"]; has || after.data["seq"] != before.data["seq"].(float64)+1 {
				t.Errorf("got %v and %v", before, after)
			}
		})
	}
	t.Run("streams", func(t *testing.T) {
		// Connection: keep-alive, x has net/http serve the request.
		for where, head := range map[string][]string{"loop": nil, "net/http": {"Content-Length: 0\r\nExpect: 100-continue\r\n"}} {
			c, _, status := p.stream("test/model", head...)
			e := p.opened()
			if status != 200 || e.data["transport"] != "sse" || e.data["protocol"] != Protocol || e.data["remoteAddr"] != c.LocalAddr().String() {
				t.Errorf("%s: status %d, %v", where, status, e)
			}
			_ = c.Close()
			if e := p.next(); e.Kind != "disconnect" || e.data["reason"] != "client" || e.data["code"] != nil {
				t.Errorf("%s: got %v", where, e)
			}
			p.stream("test/model", head...)
			p.opened()
			p.publish("event.test.model.delete", "")
			if e := p.next(); e.Kind != "disconnect" || e.data["reason"] != "ended" {
				t.Errorf("%s: got %v", where, e)
			}
			if _, _, status := p.stream("denied", head...); status != 401 {
				t.Errorf("%s: status %d", where, status)
			}
			p.opened()
			if e := p.next(); e.Kind != "disconnect" || e.data["reason"] != "refused" {
				t.Errorf("%s: got %v", where, e)
			}
		}
	})
	// Plain requests make no events.
	if status, _ := p.get("/api/test/model"); status != 200 {
		t.Errorf("status %d", status)
	}
	p.dial()
	p.stream("test/model")
	p.opened()
	p.opened()
	if err := p.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	left := map[any]int{}
	for range 2 {
		e := p.next()
		left[fmt.Sprint(e.Kind, " ", e.data["reason"], " ", e.data["code"])]++
	}
	if fmt.Sprint(left) != "map[disconnect draining 1001:1 disconnect draining <nil>:1]" {
		t.Errorf("at the stop: %v", left)
	}
	if m := testkit.Await(t, p.wire, "the last heartbeat"); m.Subject != "gateway.one" || !strings.Contains(string(m.Data), `"stopped":true`) {
		t.Errorf("got %s %s", m.Subject, m.Data)
	}
}

// A client's connect event precedes its requests. Its disconnect event follows them, but for access
// requests that wait for a subscription, and requests that wait for a limit of their service.
func TestPresenceOrder(t *testing.T) {
	p := startPresent(t, func(c *Config) { c.Loops, c.MaxServiceRequests = 2, -1 })
	const clients = 100
	for range clients {
		c := p.dial()
		// All at once, and then it goes.
		var all []byte
		for _, m := range []string{`{"id":1,"method":"subscribe.test.{cid}"}`, `{"id":2,"method":"auth.test.{cid}.x"}`} {
			all = append(all, ws.MustCompileFrame(ws.MaskFrameInPlace(ws.NewTextFrame([]byte(m))))...)
		}
		all = append(all, ws.MustCompileFrame(ws.MaskFrameInPlace(ws.NewCloseFrame(nil)))...)
		if _, err := c.conn.Write(all); err != nil {
			t.Fatal(err)
		}
	}
	state := map[string]string{}
	requests := 0
	for gone := 0; gone < clients; {
		m := testkit.Await(t, p.wire, "a message")
		if e, ok := eventOf(m); ok {
			if want := map[string]string{"connect": "", "disconnect": "connect"}[e.Kind]; state[e.CID] != want {
				t.Fatalf("%s: %s after %q", e.CID, e.Kind, state[e.CID])
			}
			if state[e.CID] = e.Kind; e.Kind == "disconnect" {
				gone++
			}
			continue
		}
		parts := strings.Split(m.Subject, ".")
		if k := parts[0]; k != "access" && k != "auth" {
			continue
		}
		requests++
		if cid := parts[2]; state[cid] == "" || state[cid] != "connect" && parts[0] == "auth" {
			t.Fatalf("%s of %s after %q", m.Subject, cid, state[cid])
		}
	}
	if requests < 2*clients-10 {
		t.Errorf("only %d requests", requests)
	}
}

// Without the setting, nothing is on the wire and there is nothing to ask.
func TestPresenceOff(t *testing.T) {
	g := startLive(t, nil)
	wire := watchWire(t, g.nc)
	g.serve("access.test.>", always(`{"result":{"get":true}}`))
	g.serve("get.test.>", always(`{"result":{"model":{"n":1}}}`))
	c := g.dial()
	c.ask("subscribe.test.model", "")
	_ = c.conn.Close()
	testkit.Until(t, "the client has gone", func() bool { return g.netMetrics.Open.Load() == 0 })
	if err := g.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	for len(wire) > 0 {
		m := <-wire
		switch kind, _, _ := strings.Cut(m.Subject, "."); kind {
		case "access", "get", "_INBOX":
		default:
			t.Errorf("%s is on the wire", m.Subject)
		}
	}
}

// presentAt is a gateway with connection events at a NATS server of the test.
func presentAt(t *testing.T, s *natstest.Server, change func(*Config)) *Gateway {
	t.Helper()
	return create(t, func(c *Config) {
		c.EmbeddedNATS, c.EmbeddedNATSListen, c.NATSURL = false, "", secret.URLs(s.URL())
		c.ConnectionEvents, c.GatewayID, c.GatewayHeartbeat, c.NATSGrace = true, "one", time.Hour, time.Hour
		c.CloseTimeout = 100 * time.Millisecond
		if change != nil {
			change(c)
		}
	})
}

// When NATS comes back, only the net changes are published, and the list is right.
func TestPresenceOutage(t *testing.T) {
	s := natstest.Start(t)
	g := &live{tb: t, Gateway: presentAt(t, s, nil)}
	if err := g.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Stop(context.Background()) })
	p := &present{live: g, wire: watchWire(t, s.Client())}
	stays, goes := p.dial(), p.dial()
	a, b := p.opened(), p.opened()
	s.Stop()
	testkit.Until(t, "the loss is noticed", g.presence.Down)
	_ = goes.conn.Close()
	for range 300 {
		c := p.dial()
		_ = c.conn.Close()
	}
	testkit.Until(t, "all others have gone", func() bool {
		return g.netMetrics.Open.Load() == 1 && g.presenceMetrics.Coalesced.Load() == 300
	})
	news := p.dial()
	testkit.Until(t, "two events wait", func() bool { return g.presenceMetrics.Queued.Load() == 2 })
	s.Start()
	if c := s.Client(); c != nil {
		p.wire = watchWire(t, c)
		p.nc = c
	}
	var here []string
	testkit.Until(t, "the list is right", func() bool {
		m, err := p.nc.Request("gateway.one.connections", nil, time.Second)
		if err != nil {
			return false
		}
		var reply struct {
			Result struct {
				Connections []struct{ CID, RemoteAddr string }
			}
		}
		if err := json.Unmarshal(m.Data, &reply); err != nil {
			t.Fatal(err)
		}
		here = nil
		for _, c := range reply.Result.Connections {
			here = append(here, c.RemoteAddr)
		}
		return true
	})
	want := fmt.Sprint([]string{stays.conn.LocalAddr().String(), news.conn.LocalAddr().String()})
	if fmt.Sprint(here) != want {
		t.Errorf("got %v, want %v; the events were %v and %v", here, want, a, b)
	}
	if n := g.presenceMetrics.Disconnects.Load() + g.presenceMetrics.Connects.Load(); n != 4 {
		t.Errorf("%d events were published, want 4", n)
	}
}

// A second gateway with an ID that is taken does not start; both say so. If they find each other
// later, the later one is not ready.
func TestPresenceSameID(t *testing.T) {
	s := natstest.Start(t)
	var logs [2]testkit.Log
	first := presentAt(t, s, func(c *Config) { c.Log = logs[0].Logger() })
	if err := first.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = first.Stop(context.Background()) })
	second := presentAt(t, s, func(c *Config) { c.Log = logs[1].Logger() })
	if err := second.Start(context.Background()); err == nil || !strings.Contains(err.Error(), `gatewayId "one" is that of another gateway`) {
		t.Fatalf("got %v", err)
	}
	testkit.Until(t, "the first says so", func() bool { return logs[0].Count("it was refused") == 1 })
	// A successor starts: it takes the first for its predecessor, until a third one appears.
	clock := owner.NewManualClock()
	next := presentAt(t, s, func(c *Config) { c.Log, c.TakesOver, c.Clock = logs[1].Logger(), true, clock })
	if err := next.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = next.Stop(ctx)
	})
	// What a partition of NATS hides from a gateway that starts, shows afterwards.
	other := s.Client()
	if err := other.Publish("gateway.one", []byte(`{"gid":"one","instance":"0","started":1,"interval":1000}`)); err != nil {
		t.Fatal(err)
	}
	testkit.Until(t, "the first is not ready", func() bool {
		return first.ready() != nil && strings.Contains(first.ready().Error(), "gatewayId") && first.presenceMetrics.Conflict.Load() == 1
	})
	if logs[0].Count("this one is not ready") != 1 {
		t.Errorf("log:\n%s", &logs[0])
	}
	if err := other.Publish("gateway.one", []byte(`{"gid":"one","instance":"0","started":1,"stopped":true}`)); err != nil {
		t.Fatal(err)
	}
	testkit.Until(t, "the first is ready again", func() bool { return first.ready() == nil })
	if next.ready() != nil {
		t.Errorf("the successor is not ready: %v", next.ready())
	}
}
