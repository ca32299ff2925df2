package res

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func TestAppendString(t *testing.T) {
	for in, want := range map[string]string{
		"":                      `""`,
		"library.book?a=b":      `"library.book?a=b"`,
		`a"b\c/d`:               `"a\"b\\c/d"`,
		"\n\r\t\b\f\x00\x1f":    `"\n\r\t\u0008\u000c\u0000\u001f"`,
		"\x7f<>&":               "\"\x7f<>&\"",
		"ö日😀\u2028":             "\"ö日😀\u2028\"",
		"a\xffb\xc0\xaf":        "\"a\ufffdb\ufffd\ufffd\"",
		"\xed\xa0\xbd":          "\"\ufffd\ufffd\ufffd\"", // a surrogate in UTF-8 is none
		"cut off \xf0\x9f\x98":  "\"cut off \ufffd\ufffd\ufffd\"",
		"a real \ufffd remains": "\"a real \ufffd remains\"",
	} {
		if got := string(AppendString([]byte("x"), in)); got != "x"+want {
			t.Errorf("%q: %s", in, got)
		}
	}
}

func FuzzAppendString(f *testing.F) {
	for _, s := range []string{"", "a\"\\\n", "\xff", "ö😀", "a.b?c=d"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, s, u string) {
		b := AppendString(nil, s)
		wantRaw(t, string(b))
		if got := decode(t, b); got != toValid(s) {
			t.Fatalf("%q becomes %q", s, got)
		}
		e := AppendEvent(nil, s, u, []byte("1"))
		wantRaw(t, string(e))
		if got := decode(t, e).(map[string]any)["event"]; got != toValid(s)+"."+toValid(u) {
			t.Fatalf("%q.%q becomes %q", s, u, got)
		}
		wantRaw(t, string((&Error{Code: s, Message: u}).AppendJSON(nil)))
		wantRaw(t, string(AppendGetRequest(nil, s)))
		wantRaw(t, string(AppendAuthRequest(nil, AuthRequest{
			CallRequest: CallRequest{CID: s, Query: u},
			Header: string(AppendHeader(nil, func(f func(name, value []byte)) {
				f([]byte(s), []byte(u))
				f([]byte(u), []byte(s))
				f([]byte(s), []byte(s))
			})),
			Host: s, RemoteAddr: u, URI: s,
		})))
	})
}

// toValid replaces each byte that is no UTF-8, as ranging over a string does.
func toValid(s string) string {
	var b strings.Builder
	for _, r := range s {
		b.WriteRune(r)
	}
	return b.String()
}

func TestAnswersToClients(t *testing.T) {
	withData := &Error{Code: "my.error", Message: `it "broke"`, Data: `{"a":[1]}`}
	for _, c := range []struct{ got, want string }{
		{string(AppendResult(nil, "1", nil)), `{"id":1}`},
		{string(AppendResult(nil, "1.5e3", []byte(`{"models":{}}`))), `{"result":{"models":{}},"id":1.5e3}`},
		{string(AppendResult([]byte("x"), "1", []byte("null"))), `x{"result":null,"id":1}`},
		{string(AppendID([]byte(`{"result":{},`), "2")), `{"result":{},"id":2}`},
		{string(AppendError(nil, "3", ErrNotFound)), `{"error":{"code":"system.notFound","message":"Not found"},"id":3}`},
		{string(AppendError(nil, "3", withData)), `{"error":{"code":"my.error","message":"it \"broke\"","data":{"a":[1]}},"id":3}`},
		{string(AppendEvent(nil, "a.b", "delete", nil)), `{"event":"a.b.delete"}`},
		{string(AppendEvent([]byte("x"), `a?"`, "change", []byte(`{"values":{}}`))), `x{"event":"a?\".change","data":{"values":{}}}`},
		{string(AppendEvent(nil, "", "", []byte(`null`))), `{"event":".","data":null}`},
		{string(AppendEventStart(nil, "a.b?x=é", "custom")), `{"event":"a.b?x=é.custom"`},
	} {
		if c.got != c.want {
			t.Errorf("got  %s\nwant %s", c.got, c.want)
		}
	}
}

func TestRequestsToServices(t *testing.T) {
	full := CallRequest{CID: "c1", Token: `{"user":"x"}`, Query: `q="1"`, Params: []byte(`[1]`), IsHTTP: true}
	const fullText = `{"params":[1],"token":{"user":"x"},"query":"q=\"1\"","cid":"c1","isHttp":true`
	for _, c := range []struct{ got, want string }{
		{string(AppendAccessRequest(nil, "c1", "", "", false)), `{"token":null,"cid":"c1"}`},
		{string(AppendAccessRequest(nil, "c1", `{"user":"x"}`, "a=b", true)), `{"token":{"user":"x"},"query":"a=b","cid":"c1","isHttp":true}`},
		{string(AppendGetRequest(nil, "")), `{}`},
		{string(AppendGetRequest(nil, `a="b"`)), `{"query":"a=\"b\""}`},
		{string(AppendQueryRequest(nil, "")), `{"query":""}`},
		{string(AppendQueryRequest(nil, "a=b")), `{"query":"a=b"}`},
		{string(AppendCallRequest(nil, CallRequest{CID: "c1"})), `{"params":null,"token":null,"cid":"c1"}`},
		{string(AppendCallRequest(nil, CallRequest{CID: "c1", Params: []byte("null")})), `{"params":null,"token":null,"cid":"c1"}`},
		{string(AppendCallRequest(nil, full)), fullText + `}`},
		{string(AppendAuthRequest(nil, AuthRequest{CallRequest: full})), fullText + `}`},
		{string(AppendAuthRequest(nil, AuthRequest{CallRequest: CallRequest{CID: "c1"}})), `{"params":null,"token":null,"cid":"c1"}`},
		{
			string(AppendAuthRequest(nil, AuthRequest{CallRequest{CID: "c1"}, true, `{"A":["b"]}`, "example.com", "[::1]:80", `/x?"`})),
			`{"token":null,"cid":"c1","header":{"A":["b"]},"host":"example.com","remoteAddr":"[::1]:80","uri":"/x?\""}`,
		},
	} {
		if c.got != c.want {
			t.Errorf("got  %s\nwant %s", c.got, c.want)
		}
	}
}

func TestAppendHeader(t *testing.T) {
	fields := [][2]string{
		{"x-b", "1"}, {"Host", "example.com"}, {"COOKIE", "a=\"b\""}, {"X-B", "2"}, {"accept", ""}, {"hOST", "x"}, {"x-B", "3"}, {"X-Bin", "\xff"},
	}
	each := func(f func(name, value []byte)) {
		for _, x := range fields {
			f([]byte(x[0]), []byte(x[1]))
		}
	}
	const want = `{"Accept":[""],"Cookie":["a=\"b\""],"X-B":["1","2","3"],"X-Bin":["` + "\ufffd" + `"]}`
	got := AppendHeader(nil, each)
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	// The same as net/http and encoding/json make of it.
	h := http.Header{}
	each(func(name, value []byte) { h.Add(string(name), string(value)) })
	h.Del("Host")
	std, _ := json.Marshal(h)
	if !equalJSON(decode(t, got), decode(t, std)) {
		t.Errorf("got  %s\nwant %s", got, std)
	}
	if got := string(AppendHeader([]byte("x"), func(func(name, value []byte)) {})); got != "x{}" {
		t.Errorf("no fields: %s", got)
	}
}

func TestErrors(t *testing.T) {
	seen := map[string]bool{}
	for _, e := range []*Error{
		ErrNotFound, ErrInvalidParams, ErrInvalidQuery, ErrInternal, ErrMethodNotFound, ErrAccessDenied, ErrTimeout, ErrNoSubscription,
		ErrInvalidRequest, ErrUnsupportedProtocol, ErrSubjectTooLong, ErrDeleted, ErrSubscriptionLimit, ErrBadRequest, ErrMethodNotAllowed,
		ErrServiceUnavailable, ErrForbidden, ErrNotImplemented,
	} {
		if seen[e.Code] || !strings.HasPrefix(e.Code, "system.") || e.Message == "" {
			t.Errorf("%+v", e)
		}
		seen[e.Code] = true
		wantRaw(t, string(e.AppendJSON(nil)))
	}
	if e := InternalError("why"); e.Code != CodeInternalError || e.Message != "Internal error: why" || e.Error() != "system.internalError: Internal error: why" {
		t.Errorf("%+v", e)
	}
	if InternalError("") != ErrInternal {
		t.Error("an internal error without a reason is the standard one")
	}
	if !errors.Is(fmt.Errorf("x: %w", InternalError("a")), ErrInternal) || errors.Is(ErrNotFound, ErrInternal) || errors.Is(ErrNotFound, ErrMalformed) {
		t.Error("errors.Is compares codes")
	}
}
