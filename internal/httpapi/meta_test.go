package httpapi

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/internal/owner"
	"sluice/internal/res"
)

type fields = map[string][]string

// RES.md section 4: headers are merged in the order of replies.
func TestMergeMeta(t *testing.T) {
	for _, tt := range []struct {
		name string
		all  []*res.Meta
		want *res.Meta
	}{
		{"nothing", []*res.Meta{nil, nil, nil}, nil},
		{"one", []*res.Meta{nil, {Header: fields{"A": {"1", "2"}}}, nil}, &res.Meta{Header: fields{"A": {"1", "2"}}}},
		{"different fields", []*res.Meta{{Header: fields{"A": {"1"}}}, {Header: fields{"B": {"2"}}}, {Header: fields{"C": {"3"}}}},
			&res.Meta{Header: fields{"A": {"1"}, "B": {"2"}, "C": {"3"}}}},
		{"the later wins, whole", []*res.Meta{{Header: fields{"A": {"1", "2"}}}, {Header: fields{"A": {"3"}}}},
			&res.Meta{Header: fields{"A": {"3"}}}},
		{"cookies add up", []*res.Meta{{Header: fields{"Set-Cookie": {"a=1"}}}, {Header: fields{"Set-Cookie": {"b=2", "c=3"}}}, {Header: fields{"Set-Cookie": {"a=4"}}}},
			&res.Meta{Header: fields{"Set-Cookie": {"a=1", "b=2", "c=3", "a=4"}}}},
		{"the later status counts", []*res.Meta{{Status: 206}, {}, {Status: 404}, nil}, &res.Meta{Status: 404}},
		{"protected", []*res.Meta{{Header: fields{
			"Content-Type": {"a"}, "Access-Control-Allow-Origin": {"a"}, "Access-Control-Allow-Credentials": {"a"},
			"Sec-Websocket-Extensions": {"a"}, "Sec-Websocket-Protocol": {"a"}, "Sec-Websocket-Accept": {"a"},
			"Content-Length": {"3"}, "Transfer-Encoding": {"chunked"}, "Connection": {"close"}, "Content-Encoding": {"gzip"},
			"Upgrade": {"a"}, "Trailer": {"a"}, "Keep-Alive": {"a"}, "Www-Authenticate": {"Basic"},
		}}}, &res.Meta{Header: fields{"Www-Authenticate": {"Basic"}}}},
	} {
		var before []string
		for _, m := range tt.all {
			before = append(before, fmt.Sprint(m))
		}
		var got *res.Meta
		for _, m := range tt.all {
			got = MergeMeta(got, m)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
		for i, m := range tt.all {
			if fmt.Sprint(m) != before[i] {
				t.Errorf("%s: reply %d was changed to %v", tt.name, i, m)
			}
		}
	}
}

// Adding a cookie to a response must not write to memory shared with a reply.
func TestMergingSharesNoMemory(t *testing.T) {
	values := make([]string, 1, 8)
	values[0] = "a=1"
	shared := &res.Meta{Header: fields{"Set-Cookie": values}}
	one := MergeMeta(MergeMeta(nil, shared), &res.Meta{Header: fields{"Set-Cookie": {"b=2"}}})
	two := MergeMeta(MergeMeta(nil, shared), &res.Meta{Header: fields{"Set-Cookie": {"c=3"}}})
	if one.Header["Set-Cookie"][1] != "b=2" || two.Header["Set-Cookie"][1] != "c=3" {
		t.Errorf("%v and %v", one, two)
	}
}

// RES.md section 4: what ends a request, with which status, header and body.
func TestDirectResponses(t *testing.T) {
	const elsewhere = "http://example.com/test/ref"
	custom := &res.Error{Code: "system.custom", Message: "Custom"}
	for _, tt := range []struct {
		name     string
		meta     res.Meta
		err      *res.Error
		rid      string // of the reply
		status   int
		body     string
		location string
	}{
		{name: "redirection", meta: res.Meta{Status: 307, Header: fields{"Location": {elsewhere}}}, status: 307, location: elsewhere},
		{name: "redirection to a resource", meta: res.Meta{Status: 303}, rid: "test.redirect", status: 303, location: "/api/test/redirect"},
		{name: "redirection to both", meta: res.Meta{Status: 302, Header: fields{"Location": {elsewhere}}}, rid: "test.redirect", status: 302, location: elsewhere},
		{name: "redirection to nowhere", meta: res.Meta{Status: 307}, status: 307},
		{name: "redirection with an error", meta: res.Meta{Status: 307}, err: custom, status: 307},
		{name: "redirection with an empty Location", meta: res.Meta{Status: 307, Header: fields{"Location": {}}}, rid: "a", status: 307, location: "/api/a"},
		{name: "not modified", meta: res.Meta{Status: 304}, status: 304},
		{name: "4xx", meta: res.Meta{Status: 407}, err: custom, status: 407, body: errorBody(custom)},
		{name: "5xx", meta: res.Meta{Status: 507}, err: custom, status: 507, body: errorBody(custom)},
		{name: "4xx without an error", meta: res.Meta{Status: 404}, rid: "a", status: 404, body: errorBody(res.ErrNotFound)},
		// For PUT, too, the service's error is not replaced.
		{name: "4xx with a standard error", meta: res.Meta{Status: 404}, err: res.ErrMethodNotFound, status: 404, body: errorBody(res.ErrMethodNotFound)},
		{name: "599", meta: res.Meta{Status: 599}, status: 599, body: errorBody(res.ErrInternal)},
	} {
		tt.meta.Header = MergeMeta(&res.Meta{Header: fields{"X": {"y"}, "Content-Type": {"text/html"}}}, &tt.meta).Header
		f := &fakeBackend{meta: &tt.meta, err: tt.err, result: res.CallResult{RID: tt.rid}}
		for _, method := range []string{"POST", "PUT"} {
			w := ask(t, New(Options{PUT: "set"}, f), method, "/api/test/model", "")
			expect(t, w, tt.status, tt.body)
			contentType := ""
			if tt.body != "" {
				contentType = jsonType
			}
			expectHeader(t, w, "Location", tt.location, "X", "y", "Content-Type", contentType)
		}
		// The backend adds the Location of an auth reply's resource.
		f.meta = New(Options{}, nil).Redirected(&tt.meta, tt.rid)
		w := ask(t, New(Options{}, f), "GET", "/api/test/model", "")
		expect(t, w, tt.status, tt.body)
		expectHeader(t, w, "Location", tt.location, "Etag", "")
		if t.Failed() {
			t.Fatal(tt.name)
		}
	}
}

// RES.md section 4: a reply without an error gives a standard one that fits the status.
func TestErrorOfStatus(t *testing.T) {
	want := map[int]*res.Error{
		401: res.ErrAccessDenied, 402: res.ErrAccessDenied, 407: res.ErrAccessDenied,
		403: res.ErrForbidden, 451: res.ErrForbidden,
		404: res.ErrNotFound, 410: res.ErrNotFound,
		405: res.ErrMethodNotAllowed,
		408: res.ErrTimeout, 504: res.ErrTimeout,
		501: res.ErrNotImplemented, 503: res.ErrServiceUnavailable,
	}
	for status := 400; status < 600; status++ {
		e := want[status]
		switch {
		case e != nil:
		case status < 500:
			e = res.ErrBadRequest
		default:
			e = res.ErrInternal
		}
		w := ask(t, New(Options{}, &fakeBackend{meta: &res.Meta{Status: status}}), "GET", "/api/x", "")
		expect(t, w, status, errorBody(e))
		expectHeader(t, w, "Content-Type", jsonType, "Cache-Control", "no-cache")
	}
}

// RES.md section 4: other statuses are ignored and logged; the header is used.
func TestIgnoredStatuses(t *testing.T) {
	for _, status := range []int{-1, 1, 100, 101, 200, 206, 299, 600, 601, 1 << 40} {
		var log bytes.Buffer
		f := &fakeBackend{graph: world.graph(t, "m"), meta: &res.Meta{Status: status, Header: fields{"X": {"y"}}}, result: res.CallResult{Payload: []byte("null")}}
		clock := owner.NewManualClock()
		h := New(Options{Log: slog.New(slog.NewTextHandler(&log, nil)), Clock: clock}, f)
		w := ask(t, h, "GET", "/api/m", "")
		expect(t, w, 200, plainModel)
		expectHeader(t, w, "X", "y")
		expect(t, ask(t, h, "POST", "/api/m/x", ""), 204, "")
		if n := strings.Count(log.String(), fmt.Sprint("status=", status)); n != 1 {
			t.Errorf("%d was logged %d times at a time", status, n)
		}
		clock.Advance(badStatusEvery)
		expect(t, ask(t, h, "POST", "/api/m/x", ""), 204, "")
		if n := strings.Count(log.String(), "suppressed=1"); n != 1 {
			t.Errorf("%d: logged %s", status, log.String())
		}
	}
	if Ends(nil) || Ends(&res.Meta{}) {
		t.Error("a meta without a status ends a request")
	}
}

// The header is used with every response that is not a direct one.
func TestMetaFields(t *testing.T) {
	meta := &res.Meta{Header: fields{"X": {"a", "b"}, "Set-Cookie": {"a=1", "b=2"},
		"Access-Control-Allow-Credentials": {"foo"}, "Access-Control-Allow-Origin": {"foo"}, "Content-Type": {"text/html"}}}
	for _, f := range []*fakeBackend{
		{meta: meta, graph: world.graph(t, "m"), result: res.CallResult{Payload: []byte("1")}},
		{meta: meta, graph: world.graph(t, "m"), result: res.CallResult{Payload: []byte("null")}},
		{meta: meta, graph: world.graph(t, "m"), result: res.CallResult{RID: "a"}},
		{meta: meta, err: res.ErrAccessDenied},
	} {
		h := New(Options{AllowOrigin: []string{"http://a.example"}, HeaderAuth: true}, f)
		for _, method := range []string{"GET", "HEAD", "POST"} {
			w := ask(t, h, method, "/api/m/x", "", "Origin", "http://a.example")
			expectHeader(t, w, "X", "a|b", "Set-Cookie", "a=1|b=2", "Access-Control-Allow-Credentials", "true", "Access-Control-Allow-Origin", "http://a.example")
			if got := w.Header().Get("Content-Type"); got != "" && got != jsonType {
				t.Errorf("%s: Content-Type %s", method, got)
			}
		}
	}
}

// Location is that of the resource in the result, not that in the header.
func TestLocationOfResourceResult(t *testing.T) {
	f := &fakeBackend{meta: &res.Meta{Header: fields{"Location": {"/elsewhere"}}}, result: res.CallResult{RID: "a.b"}}
	w := ask(t, New(Options{}, f), "POST", "/api/a/new", "")
	expect(t, w, 200, "")
	expectHeader(t, w, "Location", "/api/a/b")
}

func TestRedirectedKeepsOthers(t *testing.T) {
	h := New(Options{}, nil)
	for _, m := range []*res.Meta{nil, {}, {Status: 200}, {Status: 404}, {Status: 302, Header: fields{"Location": {"/x"}}}} {
		if got := h.Redirected(m, "a"); got != m {
			t.Errorf("%v became %v", m, got)
		}
	}
	m := &res.Meta{Status: 302}
	if got := h.Redirected(m, "a.b"); got == m || m.Header != nil || http.Header(got.Header).Get("Location") != "/api/a/b" {
		t.Errorf("%v became %v", m, got)
	}
}
