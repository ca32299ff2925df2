package httpapi

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"sluice/fanout"
	"sluice/internal/res"
	"sluice/internal/session"
	"sluice/internal/state"
)

// fakeBackend returns preset results and records its calls.
type fakeBackend struct {
	graph  *session.Graph
	result res.CallResult
	meta   *res.Meta
	err    *res.Error
	stream func(r *http.Request, sink Sink) (*res.Meta, *res.Error)

	asked       int
	rid, method string
	params      []byte
}

func (f *fakeBackend) Get(_ *http.Request, rid string) (*session.Graph, *res.Meta, *res.Error) {
	f.asked++
	f.rid = rid
	return f.graph, f.meta, f.err
}

func (f *fakeBackend) Call(_ *http.Request, rid, method string, params []byte) (res.CallResult, *res.Meta, *res.Error) {
	f.asked++
	f.rid, f.method, f.params = rid, method, params
	return f.result, f.meta, f.err
}

func (f *fakeBackend) Stream(r *http.Request, rid string, sink Sink) (*res.Meta, *res.Error) {
	f.asked++
	f.rid = rid
	return f.stream(r, sink)
}

// resources are a service's replies to get requests, by resource ID: a result, or an error with
// "code".
type resources map[string]string

// graph makes a graph as a session does, by parsing replies.
func (all resources) graph(t testing.TB, root string) *session.Graph {
	t.Helper()
	g := &session.Graph{Root: root, Resources: map[string]fanout.Resource{}}
	for rid, text := range all {
		g.Resources[rid] = resource(t, rid, text)
	}
	return g
}

func resource(t testing.TB, rid, text string) fanout.Resource {
	t.Helper()
	member := "result"
	switch {
	case strings.HasPrefix(text, `{"code"`):
		member = "error"
	case strings.HasPrefix(text, "{"):
		text = `{"model":` + text + `}`
	default:
		text = `{"collection":` + text + `}`
	}
	var p res.Parser
	got, err := p.Get([]byte(`{"` + member + `":` + text + `}`))
	r := fanout.Resource{RID: rid, Err: err}
	switch {
	case err != nil && member == "result":
		t.Fatalf("%s: %v", rid, err)
	case got.IsModel:
		r.Snapshot = state.NewModel(got.Props)
	case got.IsCollection:
		r.Snapshot = state.NewCollection(got.Values)
	}
	return r
}

// ask sends a request to a handler and returns the recorded response. fields are names and values
// of the header.
func ask(t testing.TB, h http.Handler, method, target, body string, fields ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for i := 0; i < len(fields); i += 2 {
		r.Header.Add(fields[i], fields[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// expect compares a response's status and body.
func expect(t testing.TB, w *httptest.ResponseRecorder, status int, body string) {
	t.Helper()
	if w.Code != status || w.Body.String() != body {
		t.Errorf("got %d %s\nwant %d %s", w.Code, w.Body, status, body)
	}
}

// expectHeader compares fields: name, value; an empty value means that the field must be missing.
func expectHeader(t testing.TB, w *httptest.ResponseRecorder, fields ...string) {
	t.Helper()
	for i := 0; i < len(fields); i += 2 {
		if got := strings.Join(w.Header()[fields[i]], "|"); got != fields[i+1] {
			t.Errorf("%s is %q, want %q", fields[i], got, fields[i+1])
		}
	}
}

func errorBody(e *res.Error) string { return string(e.AppendJSON(nil)) }
