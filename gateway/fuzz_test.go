package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/nats-io/nats.go"

	"sluice/internal/testkit"
)

// served checks that the gateway still serves its other client, and has contained no panic.
func (r *routed) served() {
	r.tb.Helper()
	r.n++
	answer, _ := r.client.ask("call.test.probe.ping", "")
	set, _ := r.client.ask(fmt.Sprintf("get.test.p%d", r.n), "")
	r.sound()
	if !strings.Contains(answer, `"payload":null`) || !strings.Contains(set, `"n":1`) {
		r.tb.Errorf("another client is no longer served: %s, %s", answer, set)
	}
}

// on makes r and its client report to t.
func (r *routed) on(t *testing.T) {
	r.tb, r.client.tb = t, t
	_ = r.client.conn.SetDeadline(time.Now().Add(testkit.Patience))
}

// upgrade is a handshake that offers what clients can.
const upgrade = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"

// masked is a client's frame with a mask of zeros.
func masked(first byte, payload string) string {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	default:
		b = append(b, 0x80|126, byte(n>>8), byte(n))
	}
	return string(append(b, 0, 0, 0, 0)) + payload
}

// FuzzConnection sends arbitrary bytes to the port for clients, in two writes, as a request or
// behind a WebSocket handshake, and ends its side of the connection.
func FuzzConnection(f *testing.F) {
	for _, head := range []string{
		"GET /api/test/model HTTP/1.1\r\nHost: x\r\n\r\n", "HEAD / HTTP/1.0\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /api/test/model/ping HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
		"POST /api/test/model/ping HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\n{}\r\n0\r\nT: x\r\n\r\n",
		"POST /api/test/model/ping HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"GET /api/test/model HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n",
		"GET /healthz HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"\r\n\r\nGET /api/%zz HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\x00\x05hello", "GET /api/test/model HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n",
	} {
		f.Add(false, []byte(head), uint16(len(head)/2))
	}
	for _, frames := range []string{
		masked(0x81, `{"id":1,"method":"get.test.model"}`), masked(0x01, `{"id":1,`) + masked(0x80, `"method":"version"}`),
		masked(0x89, "ping") + masked(0x8a, "pong"), masked(0x88, "\x03\xe8bye"), masked(0x88, "\x03"), masked(0x88, "\x00\x01"),
		masked(0xc1, "\xaaVJ-*\xca/\x02\x00"), masked(0xc1, "\x00\x00\x00\xff\xff"), masked(0xc9, "x"), masked(0x82, "binary"), masked(0x83, ""),
		"\x81\x02{}", "\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00", "\x81\xfe\x00\x01\x00\x00\x00\x00x",
		masked(0x81, "\xff\xfe"), masked(0x81, strings.Repeat("[", 500)), masked(0x80, "first"), masked(0x01, "a") + masked(0x81, "b"),
	} {
		f.Add(true, []byte(frames), uint16(len(frames)/2))
	}
	r := startRouted(f)
	f.Fuzz(func(t *testing.T, websocket bool, data []byte, split uint16) {
		if len(data) > 1<<16 {
			return
		}
		r.on(t)
		conn, err := net.Dial("tcp", r.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if websocket {
			data = append([]byte(upgrade), data...)
			split += uint16(len(upgrade))
		}
		at := min(int(split), len(data))
		// The gateway may have ended the connection before it has read everything.
		if _, err := conn.Write(data[:at]); err == nil {
			r.served()
			if _, err := conn.Write(data[at:]); err == nil {
				_ = conn.(*net.TCPConn).CloseWrite()
			}
		}
		r.served()
		_ = conn.SetReadDeadline(time.Now()) // what there is
		_, _ = io.Copy(io.Discard, conn)
	})
}

// FuzzMessage sends an arbitrary WebSocket message. The connection then still answers, or is closed
// with a code.
func FuzzMessage(f *testing.F) {
	for _, m := range []string{
		`{"id":1,"method":"subscribe.test.model"}`, `{"id":1,"method":"unsubscribe.test.model","params":{"count":2}}`, `{"id":1,"method":"get.test.model?a=b"}`,
		`{"id":1,"method":"call.test.model.set","params":{"a":[{"rid":"test.model"},null]}}`, `{"id":1,"method":"auth.test.model.login","params":"x"}`,
		`{"id":1,"method":"new.test.model","params":{}}`, `{"id":1,"method":"version","params":{"protocol":"1.2.3"}}`, `{"id":1,"method":"version","params":{"protocol":"0.0.0"}}`,
		`{"id":"a","method":"get.test.model"}`, `{"id":1e400,"method":"get.test.model"}`, `{"id":null}`, `{"method":"get.test.model"}`, `[]`, `"x"`, ``, ` `, `{`, "\x00",
		`{"id":1,"method":"get.test..model"}`, `{"id":1,"method":"get.test.*"}`, `{"id":1,"method":"get.>"}`, `{"id":1,"method":"get.{cid}.{cid}"}`, `{"id":1,"method":"subscribe.test.model?` + strings.Repeat("q", 3000) + `"}`,
		`{"id":1,"id":2,"method":"get.test.model","method":"version"}`, `{"id":-1,"method":"call.test.model."}`, `{"id":1,"method":"call..set"}`, `{"id":1,"method":"\u0000\ud800"}`,
		`{"id":1,"method":"get.test.model","params":` + strings.Repeat("[", 300) + strings.Repeat("]", 300) + `}`,
	} {
		f.Add(m)
	}
	r := startRouted(f)
	f.Fuzz(func(t *testing.T, message string) {
		if len(message) > 1<<16 {
			return
		}
		r.on(t)
		c := r.dial()
		c.ask("version", `{"protocol":"1.2.3"}`)
		frame := ws.MaskFrameInPlace(ws.NewTextFrame([]byte(message)))
		if err := ws.WriteFrame(c.conn, frame); err != nil {
			t.Fatalf("a client that broke no rule is gone: %v", err)
		}
		// Its id is one that the message does not have by chance.
		const probe = `{"id":9007199254740993,"method":"version"}`
		if err := ws.WriteFrame(c.conn, ws.MaskFrameInPlace(ws.NewTextFrame([]byte(probe)))); err != nil {
			t.Fatal(err)
		}
		for {
			m, err := c.receive()
			if err != nil {
				if code := err.(closedError).code; code < 1002 || code == 1006 || code == 1011 {
					t.Errorf("closed with %d", code)
				}
				break
			}
			if !json.Valid([]byte(m)) {
				t.Fatalf("the gateway sends invalid JSON: %q", m)
			}
			if strings.Contains(m, `"id":9007199254740993`) {
				break
			}
		}
		r.served()
	})
}

// FuzzReply lets a service reply arbitrarily to each kind of request. The client that caused it
// gets one response, and others are served.
func FuzzReply(f *testing.F) {
	kinds := []string{"access", "get", "call", "auth", "query"}
	for kind := range kinds {
		for _, reply := range []string{
			`{"result":{"get":true,"call":"*"}}`, `{"result":{"model":{"a":1}}}`, `{"result":{"collection":[{"rid":"test.model"}],"query":"a=b"}}`, `{"result":null}`,
			`{"resource":{"rid":"test.model"}}`, `{"error":{"code":"x.y","message":"z","data":{}}}`, `{"result":{"events":[{"event":"change","data":{"values":{"n":2}}}]}}`,
			`{"result":{"model":{"a":{"action":"delete"}}}}`, `{"result":{"events":[{"event":"add","data":{"idx":9}},null]}}`, `{"result":{"model":{"n":5}}}`,
			`{"result":{"payload":1},"meta":{"status":404,"header":{"X":["y"]}}}`, ``, `null`, `{}`, `[`, `x`, `timeout:"5"`, `{"result":{"model":{"a":{"rid":"reply.n.get"}}}}`, "\xff",
		} {
			f.Add(uint8(kind), []byte(reply))
		}
	}
	r := startRouted(f)
	replies := make(chan []byte, 1)
	arbitrary := func(m *nats.Msg) {
		select {
		case reply := <-replies:
			if len(reply) > 0 && (reply[0]|0x20) >= 'a' && (reply[0]|0x20) <= 'z' {
				_ = m.Respond(reply) // extends the timeout only: the reply is still to come
				reply = []byte(`{"error":{"code":"system.notFound","message":"Not found"}}`)
			}
			_ = m.Respond(reply)
		default:
			_ = m.Respond([]byte(`{"result":{"events":[]}}`))
		}
	}
	on := func(subject string, serve func(*nats.Msg)) {
		if _, err := r.nc.Subscribe(subject, serve); err != nil {
			f.Fatal(err)
		}
	}
	granted := func(m *nats.Msg) { _ = m.Respond([]byte(`{"result":{"get":true,"call":"*"}}`)) }
	model := func(m *nats.Msg) { _ = m.Respond([]byte(`{"result":{"model":{"n":1}}}`)) }
	for _, kind := range kinds {
		for _, request := range []string{"access", "get", "call", "auth"} {
			subject := request + ".reply." + kind + ".>"
			switch {
			case request == kind:
				on(subject, arbitrary)
			case request == "access":
				on(subject, granted)
			case request == "get" && kind == "query":
				on(subject, func(m *nats.Msg) { _ = m.Respond([]byte(`{"result":{"model":{"n":1},"query":"q"}}`)) })
			case request == "get":
				on(subject, model)
			}
		}
	}
	on("fuzzed.query", arbitrary)
	r.flush()
	f.Fuzz(func(t *testing.T, which uint8, reply []byte) {
		if len(reply) > 1<<16 {
			return
		}
		r.on(t)
		kind := kinds[int(which)%len(kinds)]
		r.n++
		rid := fmt.Sprintf("reply.%s.n%d", kind, r.n)
		c := r.dial()
		if kind != "query" {
			replies <- bytes.Clone(reply)
		}
		method := map[string]string{"access": "subscribe." + rid, "get": "subscribe." + rid, "call": "call." + rid + ".set", "auth": "auth." + rid + ".set", "query": "subscribe." + rid + "?q"}[kind]
		answer, _ := c.ask(method, "")
		if !json.Valid([]byte(answer)) {
			t.Fatalf("the gateway sends invalid JSON: %q", answer)
		}
		if kind == "query" {
			replies <- bytes.Clone(reply)
			r.publish("event."+rid+".query", `{"subject":"fuzzed.query"}`)
			r.flush()
			c.ask("version", `{"protocol":"1.2.3"}`)
		}
		r.served()
		select {
		case <-replies: // nobody asked, such as a query after the resource has gone
		default:
		}
	})
}
