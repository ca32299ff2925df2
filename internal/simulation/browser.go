package simulation

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"sluice/internal/resmodel"
)

// browser is a client that makes plain requests by HTTP over a connection that it keeps.
type browser struct {
	peer
	asked []*http.Request   // without a response, in order
	saw   map[string]string // the last responses to GETs, by path

	raw    bytes.Reader // of what it reads; both are used again
	reader *bufio.Reader
}

// act has the browser make requests, or do something else.
func (b *browser) act() {
	w := b.w
	if b.conn == nil {
		b.connect()
	}
	switch n := w.pick(12); {
	case n < 9:
		for range 1 + w.pick(3) {
			if w.pick(4) > 0 {
				b.request(http.MethodGet, target(pickOf(&w.chooser, w.pool)), "")
				continue
			}
			w.calls++
			b.request(http.MethodPost, target(pickOf(&w.chooser, w.pool[:6]))+"/pick", fmt.Sprintf(`{"n":%d}`, w.calls))
		}
	case n < 10:
		b.leave()
		b.asked = nil
	default:
		b.stall(n < 11)
	}
}

func (b *browser) connect() {
	b.closed = func() {
		// An idle connection may be closed, also when a request is on its way.
		if !b.stalls && len(b.asked) > 0 && len(b.out) == 0 {
			b.w.failf("%s is closed by the gateway, without a response", b.name)
		}
		b.gone()
		b.asked = nil
	}
	b.asked = nil
	b.open()
}

// target returns the path of a resource by HTTP.
func target(rid string) string {
	name, query, has := strings.Cut(rid, "?")
	path := "/api/" + strings.ReplaceAll(name, ".", "/")
	if has {
		path += "?" + query
	}
	return path
}

func (b *browser) request(method, target, body string) {
	text := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", method, target, len(body), body)
	b.w.note(b.name, " > ", method, " ", target, " ", body)
	b.asked = append(b.asked, &http.Request{Method: method, URL: &url.URL{Opaque: target}})
	b.out = append(b.out, text...)
}

// read has the browser take what it has received. A response that is not complete is read again.
func (b *browser) read() {
	b.got = append(b.got, b.in...)
	b.in = b.in[:0]
	for b.conn != nil && len(b.got) > 0 {
		if len(b.asked) == 0 {
			b.w.failf("%s receives %q without a request", b.name, b.got)
		}
		b.raw.Reset(b.got)
		b.reader.Reset(&b.raw)
		resp, err := http.ReadResponse(b.reader, b.asked[0])
		if err != nil {
			return
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return
		}
		left := b.raw.Len() + b.reader.Buffered()
		b.got = b.got[:copy(b.got, b.got[len(b.got)-left:])]
		b.responded(resp, string(body))
	}
}

// statuses are those that a request may have.
var statuses = map[int]bool{http.StatusOK: true, http.StatusUnauthorized: true, http.StatusNotFound: true}

func (b *browser) responded(resp *http.Response, body string) {
	b.w.received++
	b.w.logf("%s < %d %s", b.name, resp.StatusCode, body)
	path := b.asked[0].URL.Opaque
	b.asked = b.asked[1:]
	if !statuses[resp.StatusCode] {
		b.w.failf("%s gets %d %s", b.name, resp.StatusCode, body)
	}
	if v, err := resmodel.Decode(body); body == "" && resp.Header.Get("Location") != "" {
		return // a call whose result is a resource
	} else if err != nil {
		b.w.failf("%s gets %q, which is no JSON: %v", b.name, body, err)
	} else {
		b.saw[path] = resmodel.Encode(v)
	}
}

// parts is in how many parts the resources are divided, of which look gets one: getting all of them
// costs more than it finds.
const parts = 3

// look gets resources when everything has come to rest, until each response has the services'
// state: what was lost on the way is asked for again after a time.
func (w *world) look() {
	w.seen(func(b *browser, rid string) { b.get(rid) })
	w.rest("requests by HTTP", func() (err error) {
		var again []func()
		w.seen(func(b *browser, rid string) {
			if len(b.asked) > 0 {
				err = fmt.Errorf("%s: no response to %v", b.name, b.asked)
				return
			}
			want, sure := w.nested(rid)
			if name, _, _ := strings.Cut(rid, "?"); w.of(name).store.Denied(name) {
				want = map[string]any{"code": "system.accessDenied", "message": "Access denied"}
			}
			if text, got := resmodel.Encode(want), b.saw[target(rid)]; sure && got != text {
				err = fmt.Errorf("%s: GET of %s gives %s, want %s", b.name, rid, got, text)
				again = append(again, func() { b.get(rid) })
			}
		})
		for _, get := range again {
			get()
		}
		return err
	})
}

// seen calls f with the resources that look gets, and the browser that gets it.
func (w *world) seen(f func(b *browser, rid string)) {
	for i := w.part; i < len(w.pool); i += parts {
		f(w.browsers[i%len(w.browsers)], w.pool[i])
	}
}

func (b *browser) get(rid string) {
	if b.conn == nil {
		b.connect()
	}
	b.request(http.MethodGet, target(rid), "")
}

// nested returns the response to a GET of a resource, with what it refers to. sure is false if it
// has something that the gateway cannot know: what came up without an event, or failed to be asked.
func (w *world) nested(rid string) (value any, sure bool) {
	sure = true
	path := map[string]bool{}
	var of func(rid string) (any, bool)
	of = func(rid string) (any, bool) {
		if w.born[rid] || w.keepsOld(rid) {
			sure = false
		}
		value, ok := w.of(rid).store.Value(rid)
		if !ok {
			return map[string]any{"code": "system.notFound", "message": "Not found"}, false
		}
		path[rid] = true
		defer delete(path, rid)
		one := func(v any) any {
			m, ok := v.(map[string]any)
			if !ok {
				return v
			}
			if data, ok := m["data"]; ok {
				return data
			}
			to := m["rid"].(string)
			ref := map[string]any{"href": target(to)}
			if m["soft"] == true || path[to] {
				return ref
			}
			switch inner, ok := of(to); inner.(type) {
			case []any:
				ref["collection"] = inner
			default:
				kind := "error"
				if ok {
					kind = "model"
				}
				ref[kind] = inner
			}
			return ref
		}
		switch t := value.(type) {
		case []any:
			all := []any{}
			for _, v := range t {
				all = append(all, one(v))
			}
			return all, true
		case map[string]any:
			all := map[string]any{}
			for k, v := range t {
				all[k] = one(v)
			}
			return all, true
		}
		return value, true
	}
	value, _ = of(rid)
	return value, sure
}
