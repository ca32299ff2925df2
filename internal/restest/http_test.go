package restest

import (
	"strings"
	"testing"
)

const (
	getA = `
http a > GET /api/test/a
service < get.test.a
service > reply get.test.a {"result":{"model":{"x":1.0}}}
`
	streamA = `
http a > GET /api/test/a
  Accept: text/event-stream
service < get.test.a
service > reply get.test.a {"result":{"model":{"x":1}}}
http a < 200 stream
http a <event {"rid":"test.a","models":{"test.a":{"x":1}}}
`
	echo = "http a > POST /echo "
)

// TestHTTPRunnerPasses: what is right passes, every kind of line included.
func TestHTTPRunnerPasses(t *testing.T) {
	e := fakeEnv(t, faults{})
	for name, text := range map[string]string{
		"exchange":      getA + `http a < 200 {"x":1.0}`,
		"any body":      getA + `http a < 200 $any`,
		"raw body":      getA + `http a < 200 raw {"x":1.0}`,
		"header":        echo + "\nhttp a < 204\n  X-Method: POST\n  Date: $any\n  no X-Other\n  Set-Cookie: a=1\n  Set-Cookie: b=2",
		"body in lines": echo + "{\"a\":\n  1}\nhttp a < 200 {\"a\":1}",
		"chunked":       echo + "{\"a\":1}\n  Transfer-Encoding: chunked\nhttp a < 200 {\"a\":1}",
		"pipelined":     echo + "1\n" + echo + "2\nhttp a < 200 1\nhttp a < 200 2",
		"head":          "http a > HEAD /x\nhttp a < 204\n  X-Method: HEAD",
		"two clients":   echo + "1\nhttp b > POST /echo 2\nhttp b < 200 2\nhttp a < 200 1",
		"closed":        "http a > POST /close 1\nhttp a < 200 1\nhttp a closed\nhttp a > POST /echo 2\nhttp a < 200 2",
		"disconnects":   "http a > GET /api/test/a\nservice < get.test.a\nhttp a disconnects",
		"stream":        streamA + "service > event.test.a.change {\"values\":{\"x\":2}}\nhttp a <event {\"event\":\"test.a.change\",...}\nhttp a holds test.a {\"x\":2}",
		"stream ends":   streamA + "service > event.test.a.bye\nhttp a closed",
		"stream and socket": subscribeA + strings.ReplaceAll(streamA, "http a", "http b") +
			"service > event.test.a.x 1\nhttp b <event {\"event\":\"test.a.x\",\"data\":1}\nclient a < {\"event\":\"test.a.x\",\"data\":1}\nquiet",
		"accepted":          "client a upgrades\n  X-Token: x\nclient a accepted\n  X-Extra: yes\n  no X-Other\nclient a > {\"id\":1,\"method\":\"close\"}\nclient a closed 1013",
		"refused":           "client a upgrades /ws\n  Origin: http://evil\nclient a refused 403 {\"code\":\"no\"}\n  no X-Extra\nclient a connects",
		"early":             "client a upgrades\nclient a early {\"id\":1,\"method\":\"auth.x.y\"}\nclient a accepted raw\nservice < auth.x.y\nservice > reply auth.x.y 1\nclient a < {\"id\":1,\"result\":{\"payload\":null}}",
		"leaves":            "client a upgrades\n  Origin: http://evil\nclient a leaves\nclient a connects",
		"connection ID":     "http a > GET /api/test/a\nservice < get.test.a {\"cid\":\"http\"} as one\nservice > reply one {\"result\":{\"model\":{\"cid\":\"$cid.one\"}}}\nhttp a < 200 {\"cid\":\"http\"}",
		"several variables": "each a b\n  x y z\n  1 2\ndo\ndiffer $a $b\nend",
	} {
		t.Run(name, func(t *testing.T) {
			if err := run(t, e, text); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestHTTPRunnerFails: what is wrong fails, for the right reason.
func TestHTTPRunnerFails(t *testing.T) {
	refusedA := "client a upgrades\n  Origin: http://evil\n"
	runFails(t, []failing{
		{"other status", faults{}, getA + `http a < 404 {"x":1.0}`, "want status 404, got 200"},
		{"status that is none", faults{}, getA + `http a < ok {"x":1.0}`, "want status ok"},
		{"other value", faults{}, getA + `http a < 200 {"x":1}`, ".x: want 1, got 1.0"},
		{"superfluous member", faults{}, getA + `http a < 200 {}`, `member "x" is unexpected`},
		{"other raw body", faults{}, getA + `http a < 200 raw {"x": 1.0}`, "want the body"},
		{"unexpected body", faults{}, getA + `http a < 200`, "want no body"},
		{"missing body", faults{}, echo + "\nhttp a < 204 {}", "not JSON"},
		{"missing raw body", faults{}, echo + "\nhttp a < 204 raw x", "want the body"},
		{"other header", faults{}, echo + "\nhttp a < 204\n  X-Method: GET", `header X-Method: want "GET", got "POST"`},
		{"missing header", faults{}, echo + "\nhttp a < 204\n  X-Other: $any", "header X-Other"},
		{"superfluous header", faults{}, echo + "\nhttp a < 204\n  no X-Method", "header X-Method is unexpected"},
		{"one cookie of two", faults{}, echo + "\nhttp a < 204\n  Set-Cookie: a=1", "header Set-Cookie"},
		{"cookies in another order", faults{}, echo + "\nhttp a < 204\n  Set-Cookie: b=2\n  Set-Cookie: a=1", "header Set-Cookie"},
		{"stream that is none", faults{}, getA + `http a < 200 stream`, "got a stream: false"},
		{"stream taken for an answer", faults{}, strings.Replace(streamA, "200 stream", "200 $any", 1), "got a stream: true"},
		{"missing response", faults{}, "http a > GET /api/test/a\nservice < get.test.a\nhttp a < 200 {}", "no response was received"},
		{"missing answer at the end", faults{}, "http a > GET /api/test/a\nservice < get.test.a", "1 requests without a response"},
		{"superfluous answer at the end", faults{}, getA, "http a received 200"},
		{"second answer", faults{superfluous: true}, getA + `http a < 200 {"x":1.0}` + "\nhttp a closed", "http a received 204"},
		{"answers in another order", faults{}, echo + "1\n" + echo + "2\nhttp a < 200 2\nhttp a < 200 1", "want 2, got 1"},
		{"response without a request", faults{}, "http a < 200", "has sent nothing"},
		{"still open", faults{}, echo + "1\nhttp a < 200 1\nhttp a closed", "still open"},
		{"request that is none", faults{}, "http a > GET\nhttp a < 204", "want status 204, got 400"},
		{"other event", faults{}, streamA + "service > event.test.a.x 2\nhttp a <event {\"event\":\"test.a.x\",\"data\":1}", ".data: want 1, got 2"},
		{"missing event", faults{deaf: true}, streamA + "service > event.test.a.x 2\nhttp a <event {\"event\":\"test.a.x\",\"data\":2}", "no message was received"},
		{"events in another order", faults{}, streamA + "service > event.test.a.x 1\nservice > event.test.a.x 2\nhttp a <event {\"event\":\"test.a.x\",\"data\":2}", "want 2, got 1"},
		{"superfluous event", faults{}, streamA + "service > event.test.a.x 1\nquiet", "on its stream"},
		{"event twice", faults{superfluous: true}, streamA + "service > event.test.a.x 1\nhttp a <event {\"event\":\"test.a.x\",\"data\":1}\nquiet", "on its stream"},
		{"event for a comment", faults{}, streamA + "service > event.test.a.x 1\nhttp a <comment", "not a comment"},
		{"stream that does not end", faults{}, streamA + "http a closed", "still open"},
		{"stream that ends", faults{}, streamA + "service > event.test.a.bye\nhttp a <event {}", "the stream has ended"},
		{"stream that has ended at the end", faults{}, streamA + "service > event.test.a.bye\nclient a connects", "http a was closed"},
		{"other state", faults{}, streamA + "http a holds test.a {\"x\":2}", "want 2, got 1"},
		{"stream that a client cannot follow", faults{}, streamA + "service > event.test.a.add {\"idx\":0,\"value\":1}\nhttp a <event {...}", "cannot follow"},
		{"refused", faults{}, refusedA + "client a accepted", "want status 101, got 403"},
		{"accepted", faults{}, "client a upgrades\nclient a refused 403", "want status 403, got 101"},
		{"refused with another body", faults{}, refusedA + "client a refused 403 {\"code\":\"other\"}", `want "other", got "no"`},
		{"accepted without a header", faults{}, "client a upgrades\nclient a accepted\n  X-Other: $any", "header X-Other"},
		{"accepted with an unexpected header", faults{}, "client a upgrades\nclient a accepted\n  no X-Extra", "X-Extra is unexpected"},
		{"upgrade twice", faults{}, "client a connects\nclient a upgrades", "is connected"},
		{"early and answered", faults{}, "client a upgrades\nclient a early {\"id\":1,\"method\":\"auth.x.y\"}\nclient a accepted raw\nservice < auth.x.y\nservice > reply auth.x.y 1", "client a received"},
		{"early with a version", faults{}, "client a upgrades\nclient a early 1\nclient a accepted", "states no version"},
		{"early without an upgrade", faults{}, "client a early 1", "does not upgrade"},
		{"no upgrade", faults{}, "client a accepted", "does not upgrade"},
		{"the same", faults{}, "differ a b a", "the same"},
	})
}
