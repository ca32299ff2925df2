package resmodel

import (
	"strings"
	"testing"
)

// TestView: what a strict client accepts and what it refuses. Lines that begin with > are sent.
func TestView(t *testing.T) {
	const subscribed = `>{"id":1,"method":"subscribe.p"}
{"id":1,"result":{"models":{"p":{"c":{"rid":"c"}},"c":{"x":1}}}}`
	for _, tt := range []struct{ name, messages, want string }{
		{"set", subscribed, ""},
		{"event", subscribed + "\n" + `{"event":"c.change","data":{"values":{"x":2}}}`, ""},
		{"not held", subscribed + "\n" + `{"event":"d.change","data":{"values":{"x":2}}}`, "does not hold"},
		{"sent again", subscribed + "\n>" + `{"id":2,"method":"subscribe.c"}` + "\n" + `{"id":2,"result":{"models":{"c":{"x":1}}}}`, "the client holds it"},
		{"dropped and sent again", subscribed + "\n" + `{"event":"p.change","data":{"values":{"c":null}}}` + "\n" +
			`{"event":"p.change","data":{"values":{"c":{"rid":"c"}},"models":{"c":{"x":2}}}}`, ""},
		{"dropped and not sent again", subscribed + "\n" + `{"event":"p.change","data":{"values":{"c":null}}}` + "\n" +
			`{"event":"p.change","data":{"values":{"c":{"rid":"c"}}}}`, "c is referred to"},
		{"event after drop", subscribed + "\n" + `{"event":"p.change","data":{"values":{"c":null}}}` + "\n" + `{"event":"c.x"}`, "does not hold"},
		{"missing reference", `>{"id":1,"method":"subscribe.p"}` + "\n" + `{"id":1,"result":{"models":{"p":{"c":{"rid":"c"}}}}}`, "c is referred to"},
		{"missing root", `>{"id":1,"method":"subscribe.p"}` + "\n" + `{"id":1,"result":{}}`, "lacks p"},
		{"too much", `>{"id":1,"method":"subscribe.p"}` + "\n" + `{"id":1,"result":{"models":{"p":{},"q":{}}}}`, "nothing makes the client subscribe"},
		{"soft reference", `>{"id":1,"method":"subscribe.p"}` + "\n" + `{"id":1,"result":{"models":{"p":{"c":{"rid":"c","soft":true}}}}}`, ""},
		{"index", `>{"id":1,"method":"subscribe.l"}` + "\n" + `{"id":1,"result":{"collections":{"l":[1]}}}` + "\n" + `{"event":"l.remove","data":{"idx":1}}`, "remove at 1"},
		{"wrong kind", subscribed + "\n" + `{"event":"p.add","data":{"idx":0,"value":1}}`, "no event of a model"},
		{"no change", subscribed + "\n" + `{"event":"c.change","data":{"values":{"x":1}}}`, "did not change"},
		{"unsubscribed", subscribed + "\n>" + `{"id":2,"method":"unsubscribe.p"}` + "\n" + `{"id":2}` + "\n" + `{"event":"c.x"}`, "does not hold"},
		{"get keeps nothing", `>{"id":1,"method":"get.p"}` + "\n" + `{"id":1,"result":{"models":{"p":{}}}}` + "\n" + `{"event":"p.x"}`, "does not hold"},
		{"cycle is garbage", `>{"id":1,"method":"subscribe.a"}` + "\n" + `{"id":1,"result":{"models":{"a":{"b":{"rid":"b"}},"b":{"a":{"rid":"a"}}}}}` +
			"\n>" + `{"id":2,"method":"unsubscribe.a"}` + "\n" + `{"id":2}` + "\n" + `{"event":"b.x"}`, "does not hold"},
		{"unsubscribe event", subscribed + "\n" + `{"event":"p.unsubscribe","data":{}}` + "\n" + `{"event":"c.x"}`, "does not hold"},
		{"unsubscribe event without subscription", subscribed + "\n" + `{"event":"c.unsubscribe","data":{}}`, "without a direct"},
		{"after delete", subscribed + "\n" + `{"event":"p.delete"}` + "\n" + `{"event":"p.x"}`, "after delete"},
		{"answer to nothing", `{"id":1,"result":{}}`, "was not sent"},
		{"second answer", subscribed + "\n" + `{"id":1,"result":{}}`, "was not sent"},
		{"call with resource", `>{"id":1,"method":"call.p.new"}` + "\n" + `{"id":1,"result":{"rid":"q","models":{"q":{}}}}` + "\n" + `{"event":"q.x"}`, ""},
		{"call with resource that failed", `>{"id":1,"method":"call.p.new"}` + "\n" + `{"id":1,"result":{"rid":"q","errors":{"q":{}}}}` + "\n" + `{"event":"q.x"}`, "does not hold"},
		{"call with payload", `>{"id":1,"method":"call.p.set"}` + "\n" + `{"id":1,"result":{"payload":{"rid":"q"}}}`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := NewView()
			var err error
			for line := range strings.Lines(tt.messages) {
				if err != nil {
					t.Fatalf("refused too early: %v", err)
				}
				line = strings.TrimSpace(line)
				if sent, ok := strings.CutPrefix(line, ">"); ok {
					v.Sent(sent)
					continue
				}
				err = v.Received(line)
			}
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("want an error with %q, got %v", tt.want, err)
			}
		})
	}
}

// TestEncode: the text is that of encoding/json without its escapes of HTML.
func TestEncode(t *testing.T) {
	for _, text := range []string{
		`{"a":1.50e3,"b":[true,false,null,"x"],"c":{}}`, `[]`, `"<&>"`, `"\"\\\n"`, `"é\u2028"`, `{"\"":{"":0}}`, `-1`,
	} {
		v, err := Decode(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := Encode(v); got != text {
			t.Errorf("%s becomes %s", text, got)
		}
	}
	if got := Encode([]any{1, 2.5, struct{ A string }{"<"}}); got != `[1,2.5,{"A":"<"}]` {
		t.Errorf("got %s", got)
	}
}
