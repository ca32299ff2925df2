package res

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The fuzz targets of the service codecs check that no payload causes a panic or is written to,
// that encoding/json decodes each accepted payload alike, and that every raw text can be sent to a
// browser. FuzzCheck covers the text that check rejects.

// fuzzPayload decodes a payload with encoding/json, and returns nil unless check accepts it and it
// is an object.
func fuzzPayload(t *testing.T, payload []byte) map[string]any {
	if _, ok := check(payload, nil); !ok {
		return nil
	}
	m, _ := decode(t, payload).(map[string]any)
	return m
}

// unchanged fails at the end of the test if the payload was written to.
func unchanged(t *testing.T, payload []byte) {
	in := bytes.Clone(payload)
	t.Cleanup(func() {
		if !bytes.Equal(in, payload) {
			t.Errorf("%q was written to", in)
		}
	})
}

// wantValue fails unless v is the JSON value x as RES.md section 1 defines it.
func wantValue(t *testing.T, v Value, x any) {
	t.Helper()
	wantRaw(t, v.Raw)
	wantRaw(t, v.Content())
	wantRaw(t, string(v.AppendJSON(nil, true)))
	m, _ := x.(map[string]any)
	_, isList := x.([]any)
	switch v.Kind {
	case Primitive:
		if m != nil {
			x = m["data"]
		}
		_, isMap := x.(map[string]any)
		if isList || isMap || !equalJSON(decode(t, []byte(v.Raw)), x) {
			t.Fatalf("%+v is made of %v", v, x)
		}
	case Reference, SoftReference:
		if m["rid"] != v.RID || !ValidRID(v.RID) || (m["soft"] == true) != (v.Kind == SoftReference) || !equalJSON(decode(t, []byte(v.Raw)), x) {
			t.Fatalf("%+v is made of %v", v, x)
		}
	case Data:
		if !equalJSON(decode(t, []byte(v.Content())), m["data"]) {
			t.Fatalf("%+v is made of %v", v, x)
		}
	case Delete:
		if m["action"] != "delete" || v != DeleteValue {
			t.Fatalf("%+v is made of %v", v, x)
		}
	}
	if !v.Equal(v) {
		t.Fatalf("%+v is not equal to itself", v)
	}
}

func wantProps(t *testing.T, props []Prop, x any) {
	t.Helper()
	m, ok := x.(map[string]any)
	if !ok || len(m) != len(props) {
		t.Fatalf("%v is made of %v", props, x)
	}
	for i, p := range props {
		if i > 0 && props[i-1].Key >= p.Key {
			t.Fatalf("keys are not sorted: %q, %q", props[i-1].Key, p.Key)
		}
		w, ok := m[p.Key]
		if !ok {
			t.Fatalf("no key %q in %v", p.Key, x)
		}
		wantValue(t, p.Value, w)
	}
}

func wantValues(t *testing.T, values []Value, x any) {
	t.Helper()
	list, ok := x.([]any)
	if !ok || len(list) != len(values) {
		t.Fatalf("%v is made of %v", values, x)
	}
	for i, v := range values {
		wantValue(t, v, list[i])
	}
}

func addAll(f *testing.F, seeds ...string) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	for _, s := range malformedAnswers {
		f.Add([]byte(s))
	}
}

func FuzzGet(f *testing.F) {
	addAll(f, `{"result":{"model":{"b":1,"a":{"rid":"a.b?c","soft":true},"\ud83d":{"data":[1]}},"query":"q"}}`, `{"result":{"collection":["a",{"data":2},{"rid":"\u0061"}]}}`,
		`{"error":{"code":"a","message":"\u0000","data":[1]}}`, `{"result":{"model":{},"collection":[]}}`)
	for _, v := range valueTable {
		f.Add([]byte(`{"result":{"model":{"k":` + v.in + `}}}`))
	}
	for _, v := range invalidValues {
		f.Add([]byte(`{"result":{"collection":[` + v + `]}}`))
	}
	var p Parser
	f.Fuzz(func(t *testing.T, payload []byte) {
		unchanged(t, payload)
		r, err := p.Get(payload)
		if err != nil {
			wantRaw(t, string(err.AppendJSON(nil)))
			return
		}
		result := fuzzPayload(t, payload)["result"].(map[string]any)
		switch {
		case r.IsModel == r.IsCollection:
			t.Fatalf("%q: %+v", payload, r)
		case r.IsModel:
			wantProps(t, r.Props, result["model"])
		default:
			wantValues(t, r.Values, result["collection"])
		}
		if q, _ := result["query"].(string); q != r.Query {
			t.Fatalf("%q: query %q", payload, r.Query)
		}
	})
}

func FuzzAccess(f *testing.F) {
	addAll(f, `{"result":{"get":true,"call":"a,b"},"meta":{"status":401,"header":{"set-cookie":["a","b"]}}}`, `{"result":{"call":"*"}}`)
	var p Parser
	f.Fuzz(func(t *testing.T, payload []byte) {
		unchanged(t, payload)
		a, meta, err := p.Access(payload)
		if meta != nil {
			for name, values := range meta.Header {
				if name == "" || strings.ContainsAny(name+strings.Join(values, ""), "\r\n\x00") || strings.ContainsAny(name, " :") {
					t.Fatalf("%q: header %q: %q", payload, name, values)
				}
			}
		}
		if err != nil {
			wantRaw(t, string(err.AppendJSON(nil)))
			return
		}
		result := fuzzPayload(t, payload)["result"].(map[string]any)
		call, _ := result["call"].(string)
		if a.Get != (result["get"] == true) || a.Call != call {
			t.Fatalf("%q: %+v", payload, a)
		}
		for m := range strings.SplitSeq(call, ",") {
			if call != "" && !a.CanCall(m) {
				t.Fatalf("%q denies %q", call, m)
			}
		}
	})
}

func FuzzCall(f *testing.F) {
	addAll(f, `{"result":{"a":[1,"\ud83d"]}}`, `{"resource":{"rid":"a.b"}}`, `{"result":{"rid":"a.b"}}`, `{"error":{"code":"x","message":"y"}}`)
	var p Parser
	f.Fuzz(func(t *testing.T, payload []byte) {
		unchanged(t, payload)
		r, _, err := p.Call(payload, "set")
		if err != nil {
			wantRaw(t, string(err.AppendJSON(nil)))
			return
		}
		m := fuzzPayload(t, payload)
		if resource, ok := m["resource"].(map[string]any); ok {
			if r.RID != resource["rid"] || !ValidRID(r.RID) || r.Payload != nil {
				t.Fatalf("%q: %+v", payload, r)
			}
			return
		}
		wantRaw(t, string(r.Payload))
		if r.RID != "" || r.Legacy || !equalJSON(decode(t, r.Payload), m["result"]) {
			t.Fatalf("%q: %+v", payload, r)
		}
		result := string(r.Payload)
		legacy, _, err := p.Call(payload, "new")
		o, _ := m["result"].(map[string]any)
		_, isText := o["rid"].(string)
		if !isText || len(o) != 1 {
			if err != nil || legacy.Legacy || string(legacy.Payload) != result {
				t.Fatalf("%q: %+v, %v", payload, legacy, err)
			}
		} else if err == nil && legacy.Legacy && legacy.RID != o["rid"] {
			t.Fatalf("%q: %+v", payload, legacy)
		}
	})
}

func FuzzChange(f *testing.F) {
	addAll(f, `{"values":{"a":1,"b":{"action":"delete"}}}`, `{"a":1,"b":{"rid":"x"}}`, `{"values":{"a":1},"b":2}`, `{}`)
	for _, v := range valueTable {
		f.Add([]byte(`{"values":{"k":` + v.in + `}}`))
	}
	for _, v := range invalidValues {
		f.Add([]byte(`{"values":{"k":` + v + `}}`))
	}
	var p Parser
	f.Fuzz(func(t *testing.T, payload []byte) {
		unchanged(t, payload)
		props, legacy, err := p.Change(payload)
		if err != nil {
			if props != nil {
				t.Fatalf("%q: %v, %v", payload, props, err)
			}
			return
		}
		m := fuzzPayload(t, payload)
		values, ok := m["values"].(map[string]any)
		if legacy {
			values = m
		} else if !ok || len(m) != 1 {
			t.Fatalf("%q is taken for the current form", payload)
		}
		wantProps(t, props, values)
	})
}

func FuzzAddRemove(f *testing.F) {
	addAll(f, `{"idx":1,"value":"x"}`, `{"idx":0,"value":{"rid":"a"}}`, `{"idx":1.0}`, `{"idx":-1}`, `{"idx":1e3,"value":1}`, `{"idx":99999999999}`)
	var p Parser
	f.Fuzz(func(t *testing.T, payload []byte) {
		unchanged(t, payload)
		at, rerr := p.Remove(payload)
		idx, v, err := p.Add(payload)
		m := fuzzPayload(t, payload)
		number, _ := m["idx"].(json.Number)
		want, convErr := strconv.ParseInt(string(number), 10, 32)
		valid := m != nil && convErr == nil && want >= 0 && !strings.HasPrefix(string(number), "-")
		if (rerr == nil) != valid || rerr == nil && at != int(want) || rerr != nil && at != 0 {
			t.Fatalf("%q: %d, %v", payload, at, rerr)
		}
		if err == nil {
			if !valid || idx != at || v.Kind == Delete {
				t.Fatalf("%q: %d, %+v", payload, idx, v)
			}
			wantValue(t, v, m["value"])
		} else if idx != 0 || v != (Value{}) {
			t.Fatalf("%q: %d, %+v, %v", payload, idx, v, err)
		}
	})
}

func FuzzCustom(f *testing.F) {
	addAll(f, ` { "a" : "\ud83d" } `, `"\\\""`)
	var p Parser
	f.Fuzz(func(t *testing.T, payload []byte) {
		unchanged(t, payload)
		raw, err := p.Custom(payload)
		if err != nil || raw == nil {
			if (err == nil) != (len(payload) == 0) || raw != nil {
				t.Fatalf("%q: %q, %v", payload, raw, err)
			}
			return
		}
		wantRaw(t, string(raw))
		if !equalJSON(decode(t, raw), decode(t, payload)) {
			t.Fatalf("%q becomes %q", payload, raw)
		}
	})
}

func FuzzQueryResponse(f *testing.F) {
	addAll(f, `{"result":{"events":[{"event":"change","data":{"values":{"a":1}}},{"event":"x"}]}}`, `{"result":{"model":{"a":1}}}`, `{"result":{"collection":[{"data":[]}]}}`, `{"result":{}}`)
	var p Parser
	f.Fuzz(func(t *testing.T, payload []byte) {
		unchanged(t, payload)
		q, err := p.QueryResponse(payload)
		if err != nil {
			wantRaw(t, string(err.AppendJSON(nil)))
			return
		}
		result := fuzzPayload(t, payload)["result"].(map[string]any)
		events, _ := result["events"].([]any)
		switch {
		case q.IsModel:
			wantProps(t, q.Props, result["model"])
		case q.IsCollection:
			wantValues(t, q.Values, result["collection"])
		case len(events) != len(q.Events):
			t.Fatalf("%q: %+v", payload, q)
		}
		for i, e := range q.Events {
			m := events[i].(map[string]any)
			data, has := m["data"]
			if m["event"] != e.Name || has != (e.Data != nil) {
				t.Fatalf("%q: %+v", payload, e)
			}
			if has {
				wantRaw(t, string(e.Data))
				if !equalJSON(decode(t, e.Data), data) {
					t.Fatalf("%q: %+v", payload, e)
				}
			}
			wantRaw(t, string(AppendEvent(nil, "a", e.Name, e.Data)))
		}
	})
}

func FuzzSystem(f *testing.F) {
	addAll(f, `{"resources":["a.>"],"access":["b.*"]}`, `{"tids":["a"],"subject":"x.y"}`, `{"token":{"a":1},"tid":"x"}`, `{"subject":"_INBOX.x"}`, `{"token":null}`)
	var p Parser
	f.Fuzz(func(t *testing.T, payload []byte) {
		unchanged(t, payload)
		m := fuzzPayload(t, payload)
		if resources, access, err := p.SystemReset(payload); err == nil {
			for _, c := range []struct {
				got  []string
				want any
			}{{resources, m["resources"]}, {access, m["access"]}} {
				list, _ := c.want.([]any)
				if !slices.EqualFunc(c.got, list, func(a string, b any) bool { return a == b }) {
					t.Fatalf("%q: %q", payload, c.got)
				}
			}
		}
		if tids, subject, err := p.TokenReset(payload); err == nil {
			if len(tids) > 0 && (!ValidSubject(subject) || subject != m["subject"]) || len(tids) == 0 && subject != "" {
				t.Fatalf("%q: %q, %q", payload, tids, subject)
			}
		}
		if token, tid, err := p.Token(payload); err == nil {
			if s, _ := m["tid"].(string); tid != s || (token == "") != (m["token"] == nil) {
				t.Fatalf("%q: %q, %q", payload, token, tid)
			}
			if token != "" {
				wantRaw(t, token)
				if !equalJSON(decode(t, []byte(token)), m["token"]) {
					t.Fatalf("%q: token %q", payload, token)
				}
				wantRaw(t, string(AppendAccessRequest(nil, "c", token, "", false)))
			}
		}
		if subject, err := p.QueryEvent(payload); err == nil && (!ValidSubject(subject) || subject != m["subject"]) {
			t.Fatalf("%q: %q", payload, subject)
		}
	})
}
