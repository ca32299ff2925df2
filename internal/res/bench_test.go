package res

import (
	"strings"
	"testing"

	"sluice/internal/intern"
)

const (
	subscribeText = `{"id":1234,"method":"subscribe.library.books?from=0&limit=20","params":null}`
	callText      = `{"id":1234,"method":"call.library.book.23.set","params":{"title":"Some title","author":"Some author","year":1999}}`
	changeText    = `{"values":{"price":112.25,"volume":18000,"time":"2024-05-01T12:00:00Z"}}`
	addText       = `{"idx":12,"value":{"rid":"library.book.1234"}}`
	customText    = `{"kind":"notice","text":"something happened","level":3}`
	callAnswer    = `{"result":{"ok":true,"count":12}}`
	accessAnswer  = `{"result":{"get":true,"call":"*"}}`
)

// TestAllocations bounds the allocations of each kind of message. The strings of one message share
// one allocation; lists are another.
func TestAllocations(t *testing.T) {
	var p Parser
	var view RequestView
	var own Request
	shares := Parser{Interned: new(intern.Cache)}
	known := []byte(`{"id":12,"method":"subscribe.library.books"}`)
	subscribe, call, change, add := []byte(subscribeText), []byte(callText), []byte(changeText), []byte(addText)
	count := []byte(`{"count":2}`)
	custom, answer, access := []byte(customText), []byte(callAnswer), []byte(accessAnswer)
	buf := make([]byte, 0, 1024)
	fail := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		what string
		want float64
		f    func()
	}{
		{"a view of a subscribe request", 0, func() { fail(p.View(subscribe, &view)) }},
		{"a view of a call request", 0, func() { fail(p.View(call, &view)) }},
		{"an owned subscribe request", 1, func() { fail(p.Request(subscribe, &own)) }},
		{"an owned call request", 1, func() { fail(p.Request(call, &own)) }},
		{"an owned request that is known", 0, func() { fail(shares.Request(known, &own)) }},
		{"a count", 0, func() { _, _ = p.UnsubscribeCount(count) }},
		{"a change event", 2, func() { _, _, err := p.Change(change); fail(err) }},
		{"an add event", 1, func() { _, _, err := p.Add(add); fail(err) }},
		{"a remove event", 0, func() { _, err := p.Remove(add); fail(err) }},
		{"a custom event", 0, func() { _, err := p.Custom(custom); fail(err) }},
		{"a call answer", 0, func() {
			if _, _, err := p.Call(answer, "set"); err != nil {
				t.Fatal(err)
			}
		}},
		{"an access answer", 0, func() {
			if _, _, err := p.Access(access); err != nil {
				t.Fatal(err)
			}
		}},
		{"what is sent to clients", 0, func() {
			buf = AppendResult(buf[:0], "1", custom)
			buf = AppendError(buf[:0], "1", ErrNotFound)
			buf = AppendEvent(buf[:0], "library.book.1", "change", change)
		}},
		{"what is sent to services", 0, func() {
			buf = AppendAccessRequest(buf[:0], "cid", `{"user":1}`, "a=b", false)
			buf = AppendGetRequest(buf[:0], "a=b")
			buf = AppendCallRequest(buf[:0], CallRequest{CID: "cid", Token: `{"user":1}`, Params: custom})
		}},
		{"checks of names", 0, func() {
			if !ValidRID("library.books?from=0") || !ValidPart("set") || !ValidSubject("_INBOX.abc.def") {
				t.Fatal("invalid")
			}
		}},
	} {
		if n := testing.AllocsPerRun(1000, c.f); n != c.want {
			t.Errorf("%s: %v allocations, want %v", c.what, n, c.want)
		}
	}
}

func BenchmarkView(b *testing.B) {
	for _, c := range []struct{ name, text string }{{"subscribe", subscribeText}, {"call", callText}} {
		b.Run(c.name, func(b *testing.B) {
			var p Parser
			var v RequestView
			msg := []byte(c.text)
			b.SetBytes(int64(len(msg)))
			b.ReportAllocs()
			for b.Loop() {
				_ = p.View(msg, &v)
			}
		})
	}
}

func BenchmarkRequest(b *testing.B) {
	var p Parser
	var r Request
	msg := []byte(callText)
	b.SetBytes(int64(len(msg)))
	b.ReportAllocs()
	for b.Loop() {
		_ = p.Request(msg, &r)
	}
}

func BenchmarkChange(b *testing.B) {
	var p Parser
	payload := []byte(changeText)
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		_, _, _ = p.Change(payload)
	}
}

func BenchmarkAdd(b *testing.B) {
	var p Parser
	payload := []byte(addText)
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		_, _, _ = p.Add(payload)
	}
}

func BenchmarkCustom(b *testing.B) {
	var p Parser
	payload := []byte(customText)
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		_, _ = p.Custom(payload)
	}
}

func BenchmarkGet(b *testing.B) {
	list := func(n int, item string) string { return strings.Repeat(item+",", n-1) + item }
	for _, c := range []struct{ name, text string }{
		{"model", `{"result":{"model":{"author":"Some author","id":12,"shelf":{"rid":"library.shelf.3"},"title":"Some title","year":1999}}}`},
		{"collection100", `{"result":{"collection":[` + list(100, `{"rid":"library.book.12345"}`) + `]}}`},
		{"collection100000", `{"result":{"collection":[` + list(100_000, `{"rid":"library.book.12345"}`) + `]}}`},
	} {
		b.Run(c.name, func(b *testing.B) {
			var p Parser
			payload := []byte(c.text)
			b.SetBytes(int64(len(payload)))
			b.ReportAllocs()
			for b.Loop() {
				_, _ = p.Get(payload)
			}
		})
	}
}

func BenchmarkAppendEvent(b *testing.B) {
	buf := make([]byte, 0, 1024)
	data := []byte(changeText)
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendEvent(buf[:0], "library.book.1234", "change", data)
	}
}
