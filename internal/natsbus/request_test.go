package natsbus

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

func TestRequestIsAnsweredOnceAndLater(t *testing.T) {
	h := newHarness(t)
	h.service("get.>", func(_ *nats.Conn, m *nats.Msg) { _ = m.Respond([]byte("=" + m.Subject + string(m.Data))) })
	payload := []byte("abc")
	var got string
	h.caller.Request(Request{Name: "a.b", Subject: "get.a.b", Payload: payload}, func(data []byte, err error) { got = fmt.Sprint(string(data), err) })
	copy(payload, "xyz") // the bus has its own copy
	if h.caller.pending != 1 {
		t.Fatalf("pending: %d", h.caller.pending)
	}
	h.caller.Flush()
	r := h.next("reply").reply
	if r.Owner != 7 {
		t.Fatalf("reply is addressed to owner %d", r.Owner)
	}
	if got != "=get.a.babc<nil>" || h.caller.pending != 0 {
		t.Fatalf("got %q, pending %d", got, h.caller.pending)
	}
	h.advance(time.Hour)
	if m := h.bus.Metrics(); m.Requests.Load() != 1 || m.Replies.Load() != 1 || m.Timeouts.Load() != 0 || m.Pending.Load() != 0 {
		t.Fatalf("metrics: %+v", m)
	}
}

func TestNothingIsSentBeforeFlush(t *testing.T) {
	h := newHarness(t)
	seen := make(chan string, 1)
	h.service("get.>", func(_ *nats.Conn, m *nats.Msg) { seen <- m.Subject })
	h.request("a", "get.a", "")
	other := h.bus.NewCaller(8, h.wheel, h.clock.Now)
	other.Request(Request{Name: "b", Subject: "get.b"}, func([]byte, error) {})
	other.Flush()
	if s := <-seen; s != "get.b" {
		t.Fatalf("sent without Flush: %s", s)
	}
	h.caller.Flush()
	if s := <-seen; s != "get.a" {
		t.Fatalf("after Flush: %s", s)
	}
}

func TestNoResponders(t *testing.T) {
	h := newHarness(t)
	o := h.request("a", "get.a", "{}")
	h.caller.Flush()
	h.finish(o)
	if o.err != ErrNoResponders || h.bus.Metrics().NoResponders.Load() != 1 {
		t.Fatalf("got %v", o.err)
	}
}

func TestEmptyAnswerIsAnAnswer(t *testing.T) {
	h := newHarness(t)
	h.service("get.a", func(_ *nats.Conn, m *nats.Msg) { _ = m.Respond(nil) })
	o := h.request("a", "get.a", "{}")
	h.caller.Flush()
	h.finish(o)
	if o.err != nil || o.data != "" {
		t.Fatalf("got %q, %v", o.data, o.err)
	}
}

func TestTimeout(t *testing.T) {
	h := newHarness(t)
	asked := make(chan *nats.Msg, 1)
	h.service("get.a", func(_ *nats.Conn, m *nats.Msg) { asked <- m })
	o := h.request("a", "get.a", "{}")
	h.caller.Flush()
	m := <-asked
	h.advance(3*time.Second - time.Millisecond)
	if o.calls != 0 {
		t.Fatalf("timed out early: %v", o.err)
	}
	h.advance(2 * time.Millisecond)
	h.finish(o)
	if o.calls != 1 || o.err != ErrTimeout {
		t.Fatalf("got %d calls, %v", o.calls, o.err)
	}
	// A late answer must not reach the request that has the slot now.
	next := h.request("b", "get.a", "{}")
	h.caller.Flush()
	if err := m.Respond([]byte("-late")); err != nil {
		t.Fatal(err)
	}
	h.next("reply")
	if o.calls != 1 || next.calls != 0 {
		t.Fatalf("late answer was delivered: %d, %d", o.calls, next.calls)
	}
	if n := h.bus.Metrics().LateReplies.Load(); n != 1 {
		t.Fatalf("late replies: %d", n)
	}
	m = <-asked
	if err := m.Respond([]byte("-right")); err != nil {
		t.Fatal(err)
	}
	h.finish(next)
	if next.data != "-right" {
		t.Fatalf("got %q, %v", next.data, next.err)
	}
	if len(h.caller.pages) != 1 || next.calls != 1 {
		t.Fatalf("slot was not reused")
	}
}

// An answer that was received in time counts, however late the dispatcher and the owner come to it,
// and so does a pre-response.
func TestAnswerBeforeTheEndOfItsRequest(t *testing.T) {
	gate := make(chan struct{})
	h := newHarness(t, func(h *harness, _ *Options) { h.gate = gate })
	if err := h.caller.Subscribe("a"); err != nil {
		t.Fatal(err)
	}
	h.sync()
	asked := make(chan *nats.Msg, 3)
	nc := h.service("call.a.*", func(_ *nats.Conn, m *nats.Msg) { asked <- m })
	answered, extended, silent := h.request("a", "call.a.m", ""), h.request("a", "call.a.m", ""), h.request("a", "call.a.m", "")
	h.caller.Flush()
	h.publish(nc, "event.a.x", "") // the dispatcher is stuck in it
	_ = (<-asked).Respond([]byte("1"))
	_ = (<-asked).Respond([]byte(`timeout:"5000"`))
	<-asked
	h.flush(nc)
	for len(h.bus.links[0].msgs) < 2 {
		runtime.Gosched()
	}
	h.advance(3100 * time.Millisecond)
	close(gate)
	h.finish(silent)
	if silent.err != ErrTimeout || answered.err != nil || answered.data != "1" || extended.calls != 0 {
		t.Fatalf("silent %v, answered %q %v, extended %d calls", silent.err, answered.data, answered.err, extended.calls)
	}
	h.advance(5100 * time.Millisecond)
	h.finish(extended)
	if extended.err != ErrTimeout {
		t.Fatalf("extended: %v", extended.err)
	}
	if n := h.bus.Metrics().LateReplies.Load(); n != 0 {
		t.Fatalf("late replies: %d", n)
	}
}

func TestSecondAnswerIsIgnored(t *testing.T) {
	h := newHarness(t)
	h.service("get.a", func(_ *nats.Conn, m *nats.Msg) {
		_ = m.Respond([]byte("1"))
		_ = m.Respond([]byte("2"))
	})
	o := h.request("a", "get.a", "{}")
	h.caller.Flush()
	h.next("reply")
	h.next("reply")
	if o.calls != 1 || o.data != "1" || h.bus.Metrics().LateReplies.Load() != 1 {
		t.Fatalf("got %d calls, %q", o.calls, o.data)
	}
}

func TestPreResponseRestartsTheTimeout(t *testing.T) {
	h := newHarness(t)
	asked := make(chan *nats.Msg, 1)
	h.service("call.a.m", func(_ *nats.Conn, m *nats.Msg) { asked <- m })
	respond := func(m *nats.Msg, s string) {
		if err := m.Respond([]byte(s)); err != nil {
			t.Fatal(err)
		}
		h.next("reply")
	}
	o := h.request("a", "call.a.m", "{}")
	h.caller.Flush()
	m := <-asked
	h.advance(2 * time.Second)
	respond(m, `timeout:"15000"`)
	h.advance(15*time.Second - time.Millisecond)
	if o.calls != 0 {
		t.Fatalf("timed out in spite of the pre-response: %v", o.err)
	}
	respond(m, `timeout:"500"`) // shorter counts too, from now
	respond(m, `greeting:"hello"`)
	h.advance(499 * time.Millisecond)
	if o.calls != 0 {
		t.Fatal("timed out early")
	}
	h.advance(2 * time.Millisecond)
	h.finish(o)
	if o.err != ErrTimeout {
		t.Fatalf("got %v", o.err)
	}
	if n := h.bus.Metrics().PreResponses.Load(); n != 3 {
		t.Fatalf("pre-responses: %d", n)
	}

	o = h.request("a", "call.a.m", "{}")
	h.caller.Flush()
	m = <-asked
	respond(m, `timeout:"60000"`)
	h.advance(59 * time.Second)
	respond(m, `{"result":null}`)
	if o.calls != 1 || o.data != `{"result":null}` {
		t.Fatalf("got %d calls, %q, %v", o.calls, o.data, o.err)
	}
}

func TestDoneMayAskAgain(t *testing.T) {
	h := newHarness(t)
	h.service("get.>", func(_ *nats.Conn, m *nats.Msg) { _ = m.Respond([]byte("=" + m.Subject)) })
	var second *outcome
	h.caller.Request(Request{Name: "a", Subject: "get.a"}, func([]byte, error) { second = h.request("b", "get.b", "") })
	h.caller.Flush()
	h.next("reply")
	h.caller.Flush()
	h.finish(second)
	if second.data != "=get.b" {
		t.Fatalf("got %q, %v", second.data, second.err)
	}
}

// A subject of exactly the control line's length passes the server; one byte more is refused here,
// where the server would have dropped the connection with all its subscriptions.
func TestSubjectTooLong(t *testing.T) {
	h := newHarness(t)
	h.service("get.>", func(_ *nats.Conn, m *nats.Msg) { _ = m.Respond([]byte(fmt.Sprint(len(m.Subject)))) })
	payload := strings.Repeat(" ", 10) // two digits of size
	longest := maxControlLine - 1 - len(h.bus.links[0].inbox) - replyTokenLen - 1 - 2
	fits := "get." + strings.Repeat("a", longest-4)
	o := h.request("a", fits, payload)
	h.caller.Flush()
	h.finish(o)
	if o.data != fmt.Sprint(longest) {
		t.Fatalf("longest subject: got %q, %v", o.data, o.err)
	}
	o = h.request("a", fits+"a", payload)
	h.finish(o)
	if o.err != ErrSubjectTooLong {
		t.Fatalf("too long: got %v", o.err)
	}
	name := strings.Repeat("n", maxControlLine-len("event..*")-2-19)
	if err := h.caller.Subscribe(name); err != nil {
		t.Fatalf("longest name: %v", err)
	}
	if err := h.caller.Subscribe(name + "n"); err != ErrSubjectTooLong {
		t.Fatalf("too long a name: %v", err)
	}
	h.caller.Flush()
	h.survived()
}

// survived proves that the connection is the one made at the start.
func (h *harness) survived() {
	h.t.Helper()
	h.sync()
	m := h.bus.Metrics()
	if m.Disconnects.Load() != 0 || m.Reconnects.Load() != 0 {
		h.t.Fatal("the connection was dropped")
	}
}

func TestInvalidSubjectsDoNotReachNATS(t *testing.T) {
	h := newHarness(t)
	seen := make(chan string, 100)
	h.service(">", func(_ *nats.Conn, m *nats.Msg) {
		if !strings.HasPrefix(m.Subject, "sync.") && !strings.HasPrefix(m.Subject, "_INBOX.") {
			seen <- m.Subject
		}
	})
	bad := []string{
		"", ".", ".a", "a.", "a..b", "get.a b", "get.a\tb", "get.a\r\nPING", "get.a\nb", "get.a\x00b", "get.a\x7f",
		"get.*", "get.a.>", ">", "*", "get.a*b", "get.a>b", "get.\x1b[2J", " get.a", "get.a ",
	}
	for _, s := range bad {
		o := h.request("a", s, "{}")
		h.caller.Flush()
		h.finish(o)
		if o.err != ErrBadSubject {
			t.Errorf("request to %q: got %v", s, o.err)
		}
		if err := h.caller.Subscribe(s); err != ErrBadSubject {
			t.Errorf("subscribe %q: got %v", s, err)
		}
		if err := h.caller.Unsubscribe(s); err != ErrBadSubject {
			t.Errorf("unsubscribe %q: got %v", s, err)
		}
	}
	h.caller.Flush()
	h.survived()
	select {
	case s := <-seen:
		t.Fatalf("%q was published", s)
	default:
	}
	if n := h.bus.Metrics().BadSubjects.Load(); n != uint64(3*len(bad)) {
		t.Errorf("counted %d bad subjects, want %d", n, 3*len(bad))
	}
}

func TestPayloadTooLarge(t *testing.T) {
	h := newHarness(t)
	h.service("call.a.m", func(_ *nats.Conn, m *nats.Msg) { _ = m.Respond([]byte(fmt.Sprint(len(m.Data)))) })
	o := h.request("a", "call.a.m", strings.Repeat("x", 1<<20))
	h.caller.Flush()
	h.finish(o)
	if o.data != fmt.Sprint(1<<20) {
		t.Fatalf("largest payload: %q, %v", o.data, o.err)
	}
	o = h.request("a", "call.a.m", strings.Repeat("x", 1<<20+1))
	h.caller.Flush()
	h.finish(o)
	if !errors.Is(o.err, ErrPayloadTooLarge) {
		t.Fatalf("too large: %v", o.err)
	}
	h.survived()
}

func TestForgedReplies(t *testing.T) {
	h := newHarness(t)
	nc := h.service("get.a", func(*nats.Conn, *nats.Msg) {}) // never answers
	l := h.bus.links[0]
	h.request("a", "get.a", "")
	for _, token := range []string{
		"x", strings.Repeat("A", replyTokenLen+1), strings.Repeat("!", replyTokenLen),
		string(appendReplyToken(nil, 7, 0, 0, 99)),         // another generation
		string(appendReplyToken(nil, 7, 0, 200, 0)),        // a free slot
		string(appendReplyToken(nil, 7, 0, 1<<31, 0)),      // no such slot
		string(appendReplyToken(nil, 7, 0, ^uint32(0), 0)), // no such slot
	} {
		h.publish(nc, l.inbox+token, "{}")
	}
	h.flush(nc)
	h.sync()
	if h.caller.pending != 1 || h.bus.Metrics().LateReplies.Load() != 4 {
		t.Fatalf("pending %d, late %d", h.caller.pending, h.bus.Metrics().LateReplies.Load())
	}
}

func TestRequestLimit(t *testing.T) {
	h := newHarness(t, func(_ *harness, o *Options) { o.RequestLimit = 3 })
	asked := make(chan *nats.Msg, 10)
	h.service("get.a", func(_ *nats.Conn, m *nats.Msg) { asked <- m })
	var all []*outcome
	for range 3 {
		all = append(all, h.request("a", "get.a", ""))
	}
	h.caller.Flush()
	over := h.request("a", "get.a", "")
	h.finish(over)
	if over.err != ErrOverloaded || h.bus.Metrics().Overloaded.Load() != 1 {
		t.Fatalf("over the limit: %v", over.err)
	}
	for range all {
		_ = (<-asked).Respond([]byte("{}"))
	}
	for _, o := range all {
		h.finish(o)
	}
	again := h.request("a", "get.a", "")
	h.caller.Flush()
	_ = (<-asked).Respond([]byte("{}"))
	h.finish(again)
	if again.data != "{}" {
		t.Fatalf("below the limit again: %v", again.err)
	}
}

func TestCloseFailsWhatComesLater(t *testing.T) {
	h := newHarness(t)
	seen := make(chan string, 1)
	h.service("get.a", func(_ *nats.Conn, m *nats.Msg) { seen <- m.Subject })
	h.request("a", "get.a", "")
	h.caller.Flush()
	h.bus.Close()
	<-seen // what was flushed before is sent
	o := h.request("a", "get.a", "")
	h.caller.Flush()
	h.finish(o)
	if !errors.Is(o.err, ErrClosed) {
		t.Fatalf("got %v", o.err)
	}
	if err := h.caller.Subscribe("a"); err != ErrClosed {
		t.Fatalf("subscribe: %v", err)
	}
	h.bus.Close()
}
