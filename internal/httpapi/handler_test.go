package httpapi

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"sluice/internal/res"
)

const jsonType = "application/json; charset=utf-8"

func TestGet(t *testing.T) {
	f := &fakeBackend{graph: world.graph(t, "m.parent")}
	h := New(Options{}, f)
	body := `{"child":{"href":"/api/m","model":` + plainModel + `},"name":"parent"}`
	w := ask(t, h, "GET", "/api/m/parent?q=foo&f=bar", "")
	expect(t, w, 200, body)
	expectHeader(t, w, "Content-Type", jsonType, "Cache-Control", "no-cache", "Vary", "", "Content-Encoding", "", "Allow", "")
	if f.rid != "m.parent?q=foo&f=bar" {
		t.Errorf("the backend got %q", f.rid)
	}
	expect(t, ask(t, New(Options{Encoding: "jsonFlat"}, f), "GET", "/api/m/parent", ""), 200, `{"child":`+plainModel+`,"name":"parent"}`)
}

// HEAD is GET without the body; errors too.
func TestHead(t *testing.T) {
	for name, f := range map[string]*fakeBackend{
		"resource":  {graph: world.graph(t, "m.grand")},
		"error":     {err: res.ErrNotFound},
		"meta":      {meta: &res.Meta{Status: 410, Header: map[string][]string{"X": {"y"}}}},
		"redirect":  {meta: &res.Meta{Status: 307, Header: map[string][]string{"Location": {"/x"}}}},
		"long":      {graph: resources{"c": `["` + strings.Repeat("a", 5000) + `"]`}.graph(t, "c")},
		"too large": {graph: resources{"c": `["` + strings.Repeat("a", 50_000) + `"]`}.graph(t, "c")},
	} {
		h := New(Options{MaxResponse: 10_000}, f)
		for _, coding := range []string{"", "br"} {
			for _, target := range []string{"/api/x", "/api/x.y", "/nowhere"} {
				get := ask(t, h, "GET", target, "", "Accept-Encoding", coding)
				head := ask(t, h, "HEAD", target, "", "Accept-Encoding", coding)
				expect(t, head, get.Code, "")
				for field := range get.Header() {
					expectHeader(t, head, field, strings.Join(get.Header()[field], "|"))
				}
				if t.Failed() {
					t.Fatalf("%s, %s", name, target)
				}
			}
		}
	}
}

func TestInvalidTargets(t *testing.T) {
	notFound := errorBody(res.ErrNotFound)
	for _, target := range []string{
		"/wrong_prefix/test/model", "/api", "/api/", "/api/test.model", "/api/test/model/", "/api/test//model",
		"/api/test/m\u00e5del/action", "/api/test/m%C3%A5del/action", "/", "/favicon.ico",
	} {
		for _, method := range []string{"GET", "POST", "PUT"} {
			f := &fakeBackend{}
			w := ask(t, New(Options{PUT: "set"}, f), method, target, "")
			expect(t, w, 404, notFound)
			expectHeader(t, w, "Content-Type", jsonType)
			if f.asked != 0 {
				t.Errorf("%s %s reached the backend", method, target)
			}
		}
	}
	// The path of a resource has no method.
	expect(t, ask(t, New(Options{}, &fakeBackend{}), "POST", "/api/action", ""), 404, notFound)
}

// RES.md section 4: the status of every code of section 5 and of other codes, with all methods.
func TestStatusOfErrors(t *testing.T) {
	want := map[*res.Error]int{
		res.ErrNotFound: 404, res.ErrMethodNotFound: 404, res.ErrTimeout: 404,
		res.ErrAccessDenied: 401, res.ErrForbidden: 403, res.ErrForbiddenOrigin: 403,
		res.ErrMethodNotAllowed: 405, res.ErrSubjectTooLong: 414,
		res.ErrInternal: 500, res.InternalError("why"): 500, res.ErrServiceUnavailable: 503,
		res.ErrInvalidParams: 400, res.ErrInvalidQuery: 400, res.ErrNoSubscription: 400, res.ErrInvalidRequest: 400,
		res.ErrUnsupportedProtocol: 400, res.ErrDeleted: 400, res.ErrSubscriptionLimit: 400, res.ErrBadRequest: 400,
		res.ErrNotImplemented: 400,
		{Code: "custom.code", Message: "Custom", Data: `{"a":1}`}: 400,
		{Code: "system.unheardOf", Message: "?"}:                  400,
	}
	for e, status := range want {
		h := New(Options{PUT: "set", DELETE: "delete", PATCH: "patch"}, &fakeBackend{err: e, result: res.CallResult{Payload: []byte("1")}})
		for _, method := range []string{"GET", "POST", "PUT", "DELETE", "PATCH"} {
			status, e := status, e
			if e == res.ErrMethodNotFound && method != "GET" && method != "POST" {
				status, e = 405, res.ErrMethodNotAllowed
			}
			w := ask(t, h, method, "/api/test/model", "")
			expect(t, w, status, errorBody(e))
			expectHeader(t, w, "Content-Type", jsonType, "Cache-Control", "no-cache", "Etag", "")
		}
	}
}

// A backend returns neither a result nor an error, as when its request's context has ended.
func TestNoResult(t *testing.T) {
	h := New(Options{}, &fakeBackend{})
	expect(t, ask(t, h, "GET", "/api/x", ""), 500, errorBody(res.ErrInternal))
	expect(t, ask(t, h, "POST", "/api/x/y", ""), 204, "")
}

func TestPost(t *testing.T) {
	for _, tt := range []struct {
		result       res.CallResult
		status       int
		body         string
		header       []string
		method, path string
	}{
		{result: res.CallResult{Payload: []byte(`{"foo":"bar"}`)}, status: 200, body: `{"foo":"bar"}`,
			header: []string{"Content-Type", jsonType, "Location", "", "Etag", "", "Cache-Control", ""}},
		{result: res.CallResult{Payload: []byte(`false`)}, status: 200, body: `false`},
		{result: res.CallResult{Payload: []byte(`null`)}, status: 204, header: []string{"Content-Type", "", "Content-Length", ""}},
		{result: res.CallResult{RID: "test.model"}, status: 200, header: []string{"Location", "/api/test/model", "Content-Type", ""}},
		{result: res.CallResult{RID: "test.model?q=\u00e5"}, status: 200, header: []string{"Location", "/api/test/model%3Fq=%C3%A5"}},
	} {
		f := &fakeBackend{result: tt.result}
		h := New(Options{PUT: "put", DELETE: "del", PATCH: "pat"}, f)
		for _, m := range []struct{ http, target, call string }{
			{"POST", "/api/test/model/method", "method"},
			{"PUT", "/api/test/model", "put"}, {"DELETE", "/api/test/model", "del"}, {"PATCH", "/api/test/model", "pat"},
		} {
			w := ask(t, h, m.http, m.target+"?q=1", ` {"a" : [ 1 ]} `)
			expect(t, w, tt.status, tt.body)
			expectHeader(t, w, tt.header...)
			if f.rid != "test.model?q=1" || f.method != m.call || string(f.params) != `{"a":[1]}` {
				t.Errorf("called %q of %q with %s", f.method, f.rid, f.params)
			}
		}
	}
}

// RES.md section 4: PUT, DELETE and PATCH are allowed only if they are mapped to a call method.
func TestMethodsNotAllowed(t *testing.T) {
	for _, tt := range []struct {
		o      Options
		allow  string
		others []string
	}{
		{Options{}, "GET, HEAD, OPTIONS, POST", []string{"PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "get"}},
		{Options{PUT: "set"}, "GET, HEAD, OPTIONS, POST, PUT", []string{"DELETE", "PATCH", "TRACE"}},
		{Options{DELETE: "delete"}, "GET, HEAD, OPTIONS, POST, DELETE", []string{"PUT", "PATCH"}},
		{Options{PATCH: "patch"}, "GET, HEAD, OPTIONS, POST, PATCH", []string{"PUT", "DELETE"}},
	} {
		f := &fakeBackend{}
		h := New(tt.o, f)
		for _, method := range tt.others {
			w := ask(t, h, method, "/api/test/model", "{}")
			expect(t, w, 405, errorBody(res.ErrMethodNotAllowed))
			expectHeader(t, w, "Allow", tt.allow)
		}
		if f.asked != 0 {
			t.Error("the request reached the backend")
		}
		w := ask(t, h, "OPTIONS", "/api/test/model", "")
		expect(t, w, 200, "")
		expectHeader(t, w, "Allow", tt.allow, "Access-Control-Allow-Methods", tt.allow)
	}
	// The resource does not have the call method.
	w := ask(t, New(Options{PUT: "set", PATCH: "patch"}, &fakeBackend{err: res.ErrMethodNotFound}), "PUT", "/api/x", "")
	expect(t, w, 405, errorBody(res.ErrMethodNotAllowed))
	expectHeader(t, w, "Allow", "GET, HEAD, OPTIONS, POST, PATCH")
}

func TestBodies(t *testing.T) {
	bad := strings.TrimSuffix(errorBody(res.ErrBadRequest), "}") + `,"data":{"offset":`
	deep := strings.Repeat("[", res.MaxDepth) + strings.Repeat("]", res.MaxDepth)
	for _, tt := range []struct {
		body   string
		params string // what the backend gets, "-" for nothing
	}{
		{"", "-"}, {" \r\n\t", "-"},
		{"null", "null"}, {" 42\n", "42"}, {`"a"`, `"a"`}, {`{"a": {"b" :[]}}`, `{"a":{"b":[]}}`}, {deep, deep},
		{"{", ""}, {`{"a":}`, ""}, {"{}{}", ""}, {"foo", ""}, {"{]", ""}, {"\xEF\xBB\xBF{}", ""}, {`"` + "\xff" + `"`, ""},
		{"[" + deep + "]", ""}, {"NaN", ""}, {"'a'", ""}, {`{"a":1,}`, ""}, {"\x00", ""},
	} {
		for _, known := range []bool{true, false} {
			f := &fakeBackend{result: res.CallResult{Payload: []byte("null")}}
			r := httptest.NewRequest("POST", "/api/a/b", strings.NewReader(tt.body))
			if !known {
				r.ContentLength = -1
			}
			w := httptest.NewRecorder()
			New(Options{}, f).ServeHTTP(w, r)
			if tt.params == "" {
				if !strings.HasPrefix(w.Body.String(), bad) {
					t.Errorf("%q: %s", tt.body, w.Body)
				}
				expect(t, w, 400, w.Body.String())
				if f.asked != 0 {
					t.Errorf("%q reached the backend", tt.body)
				}
				continue
			}
			expect(t, w, 204, "")
			if got := string(f.params); got != tt.params && (tt.params != "-" || f.params != nil) {
				t.Errorf("%q became %q, want %q", tt.body, got, tt.params)
			}
		}
	}
}

// The error for a malformed body has the offset in the body as sent, white space included, and a
// reason. Code and message are the protocol's.
func TestMalformedBody(t *testing.T) {
	for _, tt := range []struct{ body, offset, reason string }{
		{`{"a":1,}`, "7", "expected a property name in double quotes"},
		{" \r\n {\"a\":1,}\n", "11", "expected a property name in double quotes"},
		{"\t[1 2]", "4", "expected ',' or ']' after an element"},
		{" {\"a\":\n", "6", "unexpected end"},
		{`a=1&b=2`, "0", "expected a value"},
		{"  \"\xff\"", "3", "invalid UTF-8"},
		{"\xEF\xBB\xBF{}", "0", "byte order mark before the value"},
	} {
		w := ask(t, New(Options{}, &fakeBackend{}), "POST", "/api/a/b", tt.body)
		expect(t, w, 400, `{"code":"system.badRequest","message":"Bad request","data":{"offset":`+tt.offset+`,"reason":"malformed JSON: `+tt.reason+`"}}`)
		expectHeader(t, w, "Content-Type", jsonType, "Cache-Control", "no-cache")
	}
}

// endless is a body that does not end.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	e.read += len(p)
	return copy(p, bytes.Repeat([]byte(" "), len(p))), nil
}

func TestBodyLimit(t *testing.T) {
	f := &fakeBackend{result: res.CallResult{Payload: []byte("null")}}
	h := New(Options{MaxBody: 10, Metrics: new(Metrics)}, f)
	send := func(body io.Reader, length int64) *httptest.ResponseRecorder {
		r := httptest.NewRequest("POST", "/api/a/b", body)
		r.ContentLength = length
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	const fits, more = `"12345678"`, `"123456789"`
	expect(t, send(strings.NewReader(fits), int64(len(fits))), 204, "")
	expect(t, send(strings.NewReader(fits), -1), 204, "")
	const refused = `{"code":"system.badRequest","message":"Bad request: the body is longer than 10 bytes"}`
	expect(t, send(strings.NewReader(more), int64(len(more))), 413, refused)
	expect(t, send(strings.NewReader(more), -1), 413, refused)
	e := &endless{}
	expect(t, send(e, -1), 413, refused)
	if e.read > 1<<10 {
		t.Errorf("%d bytes were read", e.read)
	}
	e = &endless{}
	expect(t, send(e, 1<<40), 413, refused)
	if e.read > 0 {
		t.Errorf("read %d bytes of a body that is too long by its Content-Length", e.read)
	}
	if n := h.o.Metrics.BodyTooLarge.Load(); n != 4 || f.asked != 2 {
		t.Errorf("counted %d, %d calls", n, f.asked)
	}
}

// A client sends less than its Content-Length, or disconnects.
func TestBodyCutShort(t *testing.T) {
	f := &fakeBackend{}
	r := httptest.NewRequest("POST", "/api/a/b", io.MultiReader(strings.NewReader("[1"), brokenReader{}))
	w := httptest.NewRecorder()
	New(Options{}, f).ServeHTTP(w, r)
	expect(t, w, 400, errorBody(res.ErrBadRequest))
	if f.asked != 0 {
		t.Error("an incomplete body reached the backend")
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestTooLargeResponse(t *testing.T) {
	h := New(Options{MaxResponse: 20}, &fakeBackend{graph: world.graph(t, "m")})
	w := ask(t, h, "GET", "/api/m", "")
	if w.Code != 500 || !json.Valid(w.Body.Bytes()) || !strings.Contains(w.Body.String(), "longer than 20 bytes") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	expectHeader(t, w, "Etag", "")
}

func TestConditionalGet(t *testing.T) {
	f := &fakeBackend{graph: world.graph(t, "m"), meta: &res.Meta{Header: map[string][]string{"X-Service": {"a"}}}}
	h := New(Options{AllowOrigin: []string{"http://a.example"}, Metrics: new(Metrics)}, f)
	first := ask(t, h, "GET", "/api/m", "")
	tag := first.Header().Get("Etag")
	if !strings.HasPrefix(tag, `W/"`) || !strings.HasSuffix(tag, `"`) || len(tag) != 24 {
		t.Fatalf("entity tag %q", tag)
	}
	for _, method := range []string{"GET", "HEAD"} {
		w := ask(t, h, method, "/api/m", "", "If-None-Match", `"x", `+tag, "Origin", "http://a.example")
		expect(t, w, 304, "")
		expectHeader(t, w, "Etag", tag, "Cache-Control", "no-cache", "X-Service", "a", "Vary", "Origin",
			"Access-Control-Allow-Origin", "http://a.example", "Content-Type", "", "Content-Length", "")
	}
	if n := h.o.Metrics.NotModified.Load(); n != 2 {
		t.Errorf("counted %d", n)
	}
	expect(t, ask(t, h, "GET", "/api/m", "", "If-None-Match", "*"), 304, "")
	expect(t, ask(t, h, "GET", "/api/m", "", "If-None-Match", `"x"`), 200, plainModel)
	if f.asked != 5 {
		t.Errorf("%d access requests for 5 GETs", f.asked)
	}

	// The tag depends on the content only: equal resources have the same, and a change another.
	other := New(Options{}, &fakeBackend{graph: resources{"x": plainModel}.graph(t, "x")})
	expectHeader(t, ask(t, other, "GET", "/api/x", ""), "Etag", tag)
	f.graph = resources{"m": strings.Replace(plainModel, "42", "43", 1)}.graph(t, "m")
	w := ask(t, h, "GET", "/api/m", "", "If-None-Match", tag)
	if w.Code != 200 || w.Header().Get("Etag") == tag {
		t.Errorf("%d with the tag %s", w.Code, w.Header().Get("Etag"))
	}
	// A change of a referenced resource changes it, too.
	f.graph = resources{"m": `{"a":{"rid":"n"}}`, "n": `[1]`}.graph(t, "m")
	one := ask(t, h, "GET", "/api/m", "").Header().Get("Etag")
	f.graph = resources{"m": `{"a":{"rid":"n"}}`, "n": `[2]`}.graph(t, "m")
	if two := ask(t, h, "GET", "/api/m", "").Header().Get("Etag"); one == two {
		t.Error("a changed reference did not change the tag")
	}
	// Errors and results of calls are never "not modified".
	f.err = res.ErrAccessDenied
	expect(t, ask(t, h, "GET", "/api/m", "", "If-None-Match", "*"), 401, errorBody(res.ErrAccessDenied))
	f.err, f.result.Payload = nil, []byte("1")
	expect(t, ask(t, h, "POST", "/api/m/x", "", "If-None-Match", "*"), 200, "1")
}

func TestServicesOverrideCaching(t *testing.T) {
	f := &fakeBackend{graph: world.graph(t, "m"), meta: &res.Meta{Header: map[string][]string{
		"Etag": {`"own"`}, "Cache-Control": {"max-age=5"},
	}}}
	h := New(Options{}, f)
	w := ask(t, h, "GET", "/api/m", "")
	expect(t, w, 200, plainModel)
	expectHeader(t, w, "Etag", `"own"`, "Cache-Control", "max-age=5")
	expect(t, ask(t, h, "GET", "/api/m", "", "If-None-Match", `W/"own"`), 304, "")
	f.meta = &res.Meta{Header: map[string][]string{"Set-Cookie": {"a=b"}}}
	expectHeader(t, ask(t, h, "GET", "/api/m", ""), "Cache-Control", "private, no-cache", "Set-Cookie", "a=b")
}

// With a real server and client: keep-alive, lengths, codings, bodies that are not read.
func TestOverNetHTTP(t *testing.T) {
	big := `["` + strings.Repeat("sluice ", 20_000) + `"]`
	f := &fakeBackend{graph: resources{"c": big}.graph(t, "c"), result: res.CallResult{Payload: []byte("null")}}
	server := httptest.NewServer(New(Options{MaxBody: 100}, f))
	defer server.Close()
	client := server.Client()
	do := func(method, path, body string, fields ...string) (*http.Response, string) {
		t.Helper()
		r, err := http.NewRequest(method, server.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(fields); i += 2 {
			r.Header.Set(fields[i], fields[i+1])
		}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(got)
	}
	// The client decompresses gzip by itself unless a coding is requested.
	if resp, got := do("GET", "/api/c", ""); got != big || !resp.Uncompressed {
		t.Errorf("%d bytes, compressed: %t", len(got), resp.Uncompressed)
	}
	if resp, got := do("GET", "/api/c", "", "Accept-Encoding", "identity"); got != big || resp.ContentLength != int64(len(big)) {
		t.Errorf("%d bytes, Content-Length %d", len(got), resp.ContentLength)
	}
	get, packed := do("GET", "/api/c", "", "Accept-Encoding", "br")
	if get.ContentLength != int64(len(packed)) || get.Header.Get("Content-Encoding") != "br" {
		t.Errorf("%v", get.Header)
	}
	if head, got := do("HEAD", "/api/c", "", "Accept-Encoding", "br"); got != "" || head.ContentLength != get.ContentLength {
		t.Errorf("HEAD: %d bytes, Content-Length %d, not %d", len(got), head.ContentLength, get.ContentLength)
	}
	if resp, got := do("GET", "/api/c", "", "If-None-Match", get.Header.Get("Etag")); resp.StatusCode != 304 || got != "" || resp.Header.Get("Vary") != "Accept-Encoding" {
		t.Errorf("%d %q %v", resp.StatusCode, got, resp.Header)
	}
	if resp, got := do("POST", "/api/c/x", "{}"); resp.StatusCode != 204 || got != "" {
		t.Errorf("%d %q", resp.StatusCode, got)
	}
	if resp, _ := do("POST", "/api/c/x", big); resp.StatusCode != 413 {
		t.Errorf("%d for a long body", resp.StatusCode)
	}
	if resp, got := do("GET", "/api/c", "", "Accept-Encoding", "identity"); got != big {
		t.Errorf("%d %d bytes after that", resp.StatusCode, len(got))
	}
}
