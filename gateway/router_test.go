package gateway

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/internal/owner"
	"sluice/internal/testkit"
)

// routed is a gateway whose owners all run and have requests pending: its loop has a
// client with a subscription, and a plain GET without a reply; a shard has the get
// request.
type routed struct {
	*live
	client  *wsClient
	cid     string // of client
	pending chan *nats.Msg
	inbox   string        // of replies, with the final dot
	reply   string        // subject of the reply to the pending get
	ended   chan struct{} // closed when the GET has a response
	faults  faultLog
	n       int
}

// faultLog is a log handler that keeps what was logged of panics: each with its stack.
type faultLog chan string

func (f faultLog) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelError }
func (f faultLog) WithAttrs([]slog.Attr) slog.Handler           { return f }
func (f faultLog) WithGroup(string) slog.Handler                { return f }

func (f faultLog) Handle(_ context.Context, r slog.Record) error {
	if !strings.HasPrefix(r.Message, "panic contained") {
		return nil
	}
	var b strings.Builder
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&b, "%s: %s\n", a.Key, a.Value)
		return true
	})
	select {
	case f <- b.String():
	default: // an earlier one will do
	}
	return nil
}

func startRouted(tb testing.TB) *routed {
	faults := make(faultLog, 1)
	g := startLive(tb, func(c *Config) {
		c.Loops, c.Shards, c.PingInterval, c.Log = 1, 2, Off, slog.New(faults)
		c.CloseTimeout = 50 * time.Millisecond // of the GET that is pending when the gateway stops
	})
	r := &routed{live: g, pending: make(chan *nats.Msg, 1), ended: make(chan struct{}, 1), faults: faults}
	cids := make(chan string, 1)
	g.serve("access.>", func(m *nats.Msg) string {
		var a struct{ CID string }
		_ = json.Unmarshal(m.Data, &a)
		select {
		case cids <- a.CID:
		default:
		}
		return `{"result":{"get":true,"call":"*"}}`
	})
	g.serve("get.test.>", always(`{"result":{"model":{"n":1}}}`))
	g.serve("call.test.>", always(`{"result":null}`))
	g.serve("get.never.>", func(m *nats.Msg) string {
		_ = m.Respond([]byte(`timeout:"86400000"`))
		select {
		case r.pending <- m:
		default: // another one than begin waits for
		}
		return ""
	})
	r.client = g.dial()
	r.client.ask("version", `{"protocol":"1.2.3"}`)
	if m, _ := r.client.ask("subscribe.test.model", ""); !strings.Contains(m, `"n":1`) {
		tb.Fatal(m)
	}
	r.cid = <-cids
	r.begin()
	return r
}

// begin sends a GET that gets no reply.
func (r *routed) begin() {
	for range 10 {
		select {
		case <-r.pending: // of an older one, that something has had fetched again
		default:
		}
		r.n++
		url := fmt.Sprintf("http://%s/api/never/m%d", r.Addr(), r.n)
		go func() { // ends with the gateway, if not sooner
			if resp, err := http.Get(url); err == nil {
				resp.Body.Close()
			}
			r.ended <- struct{}{}
		}()
		select {
		case m := <-r.pending:
			r.reply = m.Reply
			r.inbox = m.Reply[:strings.LastIndexByte(m.Reply, '.')+1]
			return
		case <-r.ended: // what came before has caught it
		}
	}
	r.tb.Fatal("no GET request arrives at the service")
}

// sound checks that the owners have contained no panic in all that they have handled so far.
func (r *routed) sound() {
	r.tb.Helper()
	total := uint64(0)
	for p := range owner.Parts {
		total += r.Gateway.faults.Count(p)
	}
	if total == 0 {
		return
	}
	select {
	case fault := <-r.faults:
		r.tb.Fatalf("%d panics; the last one that was logged:\n%s", total, fault)
	default:
		r.tb.Fatalf("%d panics", total)
	}
}

// expand replaces placeholders, since a seed cannot have these: <i> is the inbox,
// <r> the reply subject of a pending request, <p> the prefix of connection IDs, <c>
// the client's ID.
func (r *routed) expand(subject string) string {
	return strings.NewReplacer("<i>", r.inbox, "<r>", r.reply, "<p>", strings.TrimSuffix(r.ids.Conn(0), "0"), "<c>", r.cid).Replace(subject)
}

// replyToken is the last token of a reply subject.
func replyToken(owner, slot, gen uint32) string {
	var raw [16]byte
	binary.BigEndian.PutUint32(raw[0:], owner)
	binary.BigEndian.PutUint32(raw[8:], slot)
	binary.BigEndian.PutUint32(raw[12:], gen)
	return base64.RawURLEncoding.EncodeToString(raw[:])
}

// FuzzRouter sends arbitrary messages to the gateway's subscriptions, and checks
// that a client is still served and that no panic was contained. All executions
// share a gateway, so each costs a few round trips. Building it for fuzzing
// instruments the embedded NATS server, too, which takes minutes.
func FuzzRouter(f *testing.F) {
	add := func(subject, payload string) { f.Add(subject, payload, "") }
	add("<i>_____wAAAAAAAAAAAAAAAA", "{}")
	add("conn.<p>2.token", `{"token":{"u":1}}`)
	add("conn.<c>.token", "null")
	for owner := range uint32(5) {
		for slot := range uint32(3) {
			add("<i>"+replyToken(owner, slot, 0), `{"result":{"get":true}}`)
			add("<i>"+replyToken(owner, slot, 1), `timeout:"99999999999999999999"`)
		}
	}
	for _, token := range []string{"x", replyToken(0, 1<<31, 0), replyToken(1<<31, 0, 0), replyToken(3, 256, 1<<31), strings.Repeat("_", 22), strings.Repeat("-", 23)} {
		add("<i>"+token, "")
	}
	f.Add("<i>"+replyToken(0, 0, 0), "", "503")
	f.Add("<r>", "", "503")
	for _, payload := range []string{"", "timeout:\"1\"", "timeout:\"86400000\"", "t", `{"error":{}}`, `{"error":null}`, `{"result":{"model":{"a":{"rid":"test.model"}}}}`, `{"result":{"collection":[{"rid":"never.model"}],"query":"a"}}`} {
		add("<r>", payload)
		f.Add("<r>", payload, "503 x")
	}
	for _, cid := range []string{"<p>", "<p>0", "<p>1", "<p>4", "<p>zzzzzzzzzzzz", "<p>H0H1", "<p>H0H2", "<p>H1H1", "<p>HzzzH1", "<p>H0H0", "<p>H0", "<c>0", "<c>H", "x"} {
		for _, payload := range []string{`{"token":{"u":1},"tid":"a"}`, `{"token":null}`, "null", "", "[", `{"token":1,"tid":1}`} {
			add("conn."+cid+".token", payload)
		}
	}
	for _, event := range []string{"reset", "tokenReset", "x", "reset.x"} {
		for _, payload := range []string{`{"resources":["test.>","*",""],"access":[">"]}`, `{"tids":["a"],"subject":"auth.test"}`, `{"tids":["a"],"subject":"a b"}`, "null", "", "[]", `{"resources":[1],"access":{}}`} {
			add("system."+event, payload)
		}
	}
	for _, event := range []string{"change", "add", "remove", "delete", "create", "reaccess", "query", "unsubscribe", "custom"} {
		for _, payload := range []string{`{"values":{"n":{"rid":"test.model"}}}`, `{"values":{"n":1}}`, `{"idx":-1}`, `{"idx":99999999999999999999,"value":1}`, `{"subject":"x.y"}`, "", "null", "{"} {
			add("event.test.model."+event, payload)
		}
	}
	for _, subject := range []string{"event.x", "event.test.model", "event.a.b.c.d", "conn.token", "system.x", "event.test.model.ch\xffnge"} {
		add(subject, "{}")
	}
	r := startRouted(f)
	f.Fuzz(func(t *testing.T, subject, payload, status string) {
		r.tb, r.client.tb = t, t
		_ = r.client.conn.SetDeadline(time.Now().Add(testkit.Patience))
		select {
		case <-r.ended:
			r.begin()
		default:
		}
		m := &nats.Msg{Subject: r.expand(subject), Data: []byte(payload)}
		if status != "" {
			m.Header = nats.Header{"Status": {status}}
		}
		// NATS disconnects a client whose protocol line is too long or malformed.
		if len(m.Subject) > 1000 || len(payload)+len(status) > 1<<16 || r.nc.PublishMsg(m) != nil {
			return
		}
		r.flush()
		r.n++
		for range 2 { // the first may get the fuzzed message as its reply
			answer, _ := r.client.ask("call.test.probe.ping", "")
			set, _ := r.client.ask(fmt.Sprintf("get.test.p%d", r.n), "")
			if strings.Contains(answer, `"payload":null`) && strings.Contains(set, `"n":1`) {
				r.sound()
				return
			}
			subject = answer + set
		}
		r.sound()
		t.Errorf("a client is no longer served: %s", subject)
	})
}
