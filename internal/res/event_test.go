package res

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestChange(t *testing.T) {
	str := func(raw string) Value { return Value{Kind: Primitive, Raw: raw} }
	for _, c := range []struct {
		payload string
		legacy  bool
		want    []Prop
	}{
		{`{"values":{}}`, false, nil},
		{`{"values":{"a":1}}`, false, []Prop{{"a", str("1")}}},
		{` { "values" : { "b" : {"action":"delete"} , "a" : "x y" } } `, false, []Prop{{"a", str(`"x y"`)}, {"b", DeleteValue}}},
		{`{"values":{"a":1,"b":2,"a":{"action":"delete"}}}`, false, []Prop{{"a", DeleteValue}, {"b", str("2")}}},
		{`{"v\u0061lues":{"\u0061":1}}`, false, []Prop{{"a", str("1")}}},
		// A lone surrogate becomes U+FFFD, in a name as well.
		{`{"values":{"\ud83d":1}}`, false, []Prop{{"\ufffd", str("1")}}},
		// A sole member "values" that is an object makes it the current form, even if the object
		// could be a value.
		{`{"values":{"action":"delete"}}`, false, []Prop{{"action", str(`"delete"`)}}},
		{`{"values":{"rid":"a.b"}}`, false, []Prop{{"rid", str(`"a.b"`)}}},
		// The form of RES 1.0.
		{`{}`, true, nil},
		{`{"a":1}`, true, []Prop{{"a", str("1")}}},
		{`{"b":"x","a":{"action":"delete"}}`, true, []Prop{{"a", DeleteValue}, {"b", str(`"x"`)}}},
		{`{"values":"a"}`, true, []Prop{{"values", str(`"a"`)}}},
		{`{"values":null}`, true, []Prop{{"values", str(`null`)}}},
		{`{"values":{"action":"delete"},"a":1}`, true, []Prop{{"a", str("1")}, {"values", DeleteValue}}},
		{`{"values":{"rid":"a.b"},"a":1}`, true, []Prop{{"a", str("1")}, {"values", Value{Reference, `{"rid":"a.b"}`, "a.b"}}}},
	} {
		var p Parser
		props, legacy, err := p.Change([]byte(c.payload))
		if err != nil || legacy != c.legacy {
			t.Errorf("%s: legacy %v, %v", c.payload, legacy, err)
		}
		if d := cmp.Diff(c.want, props); d != "" {
			t.Errorf("%s: %s", c.payload, d)
		}
	}
	for _, payload := range []string{
		``, `x`, ` [}`, `"foo"`, `null`, `1`, `[]`, `{"values":[]}`, `{"values":{"a":[]}}`, `{"values":{"a":1},"b":1}`, `{"a":{}}`, `{"values":{"a":NaN}}`,
		"{\"values\":{\"a\":\"\xff\"}}", "{\"values\":{\"\x01\":1}}",
	} {
		var p Parser
		if props, _, err := p.Change([]byte(payload)); err == nil {
			t.Errorf("%q: %v", payload, props)
		}
	}
}

func TestAddRemove(t *testing.T) {
	for _, c := range []struct {
		idx  string
		want int
	}{
		{`0`, 0}, {`1`, 1}, {`100000`, 100000}, {`2147483647`, 1<<31 - 1},
		{`-1`, -1}, {`-0`, -1}, {`0.5`, -1}, {`1.0`, -1}, {`1e2`, -1}, {`2147483648`, -1}, {`9223372036854775808`, -1}, {`18446744073709551616`, -1},
		{`99999999999999999999999999`, -1}, {`"1"`, -1}, {`null`, -1}, {`true`, -1}, {`[1]`, -1}, {`{}`, -1},
	} {
		var p Parser
		idx, v, err := p.Add([]byte(`{"value":"x","idx":` + c.idx + `}`))
		at, rerr := p.Remove([]byte(`{"idx":` + c.idx + `}`))
		if c.want < 0 {
			if err != ErrIndex || rerr != ErrIndex || idx != 0 || at != 0 {
				t.Errorf("%s: %d, %v, %d, %v", c.idx, idx, err, at, rerr)
			}
			continue
		}
		if idx != c.want || at != c.want || err != nil || rerr != nil || v.Raw != `"x"` {
			t.Errorf("%s: %d, %v, %v, %d, %v", c.idx, idx, v, err, at, rerr)
		}
	}
	var p Parser
	for _, payload := range []string{``, `x`, `null`, `[]`, `0`, `{}`, `{"value":1}`, `{"Idx":1,"value":1}`} {
		if _, _, err := p.Add([]byte(payload)); err == nil {
			t.Errorf("add takes %q", payload)
		}
		if _, err := p.Remove([]byte(payload)); err == nil {
			t.Errorf("remove takes %q", payload)
		}
	}
	if _, _, err := p.Add([]byte(`{"idx":0}`)); err != ErrForm {
		t.Errorf("no value: %v", err)
	}
	if idx, v, err := p.Add([]byte(`{"idx":0,"idx":3,"value":1,"value":{"rid":"\u0061"}}`)); idx != 3 || v != (Value{Reference, `{"rid":"\u0061"}`, "a"}) || err != nil {
		t.Errorf("%d, %+v, %v", idx, v, err)
	}
}

func TestCustom(t *testing.T) {
	var p Parser
	if raw, err := p.Custom(nil); raw != nil || err != nil {
		t.Errorf("no payload: %q, %v", raw, err)
	}
	if raw, err := p.Custom([]byte{}); raw != nil || err != nil {
		t.Errorf("no payload: %q, %v", raw, err)
	}
	for payload, want := range map[string]string{
		`null`:                       `null`,
		`{"a":[1,"\u0041 b"],"a":2}`: `{"a":[1,"\u0041 b"],"a":2}`,
		" { \"a\" :\t[ 1 , \"\\\\\\\" b\" ] }\r\n":     `{"a":[1,"\\\" b"]}`,
		`[ "\ud83d\ud83d\ude00", "\\ud83d" ]`:          `["\ufffd\ud83d\ude00","\\ud83d"]`,
		`{"big":` + strings.Repeat("1", 100_000) + `}`: `{"big":` + strings.Repeat("1", 100_000) + `}`,
	} {
		in := []byte(payload)
		raw, err := p.Custom(in)
		if string(raw) != want || err != nil {
			t.Errorf("%.60q: %.60q, %v", payload, raw, err)
		}
		if string(in) != payload {
			t.Errorf("%.60q was written to", payload)
		}
		if payload == want && &raw[0] != &in[0] {
			t.Errorf("%.60q was copied", payload)
		}
	}
	for _, payload := range []string{` `, `x`, `{`, `1 2`, `NaN`, "\"\xff\"", "\"\n\"", `"\x"`} {
		if raw, err := p.Custom([]byte(payload)); err != ErrMalformed {
			t.Errorf("%q: %q, %v", payload, raw, err)
		}
	}
}

func TestQueryEvent(t *testing.T) {
	var p Parser
	for payload, want := range map[string]string{
		`{"subject":"_EVENT_01_"}`:               "_EVENT_01_",
		` {"x":1,"subject":"_INBOX.a\u002eb" } `: "_INBOX.a.b",
		`{"subject":"a","subject":"b"}`:          "b",
	} {
		if s, err := p.QueryEvent([]byte(payload)); s != want || err != nil {
			t.Errorf("%s: %q, %v", payload, s, err)
		}
	}
	for payload, want := range map[string]error{
		``: ErrMalformed, `{"subject":BROKEN}`: ErrMalformed,
		`null`: ErrForm, `"a"`: ErrForm, `[]`: ErrForm,
		`{}`: ErrSubject, `{"subject":null}`: ErrSubject, `{"subject":42}`: ErrSubject, `{"subject":""}`: ErrSubject, `{"subject":"a b"}`: ErrSubject,
		`{"subject":"a\r\nPUB b 0"}`: ErrSubject, `{"subject":"a.*"}`: ErrSubject, `{"subject":">"}`: ErrSubject, `{"subject":"a..b"}`: ErrSubject,
	} {
		if s, err := p.QueryEvent([]byte(payload)); err != want || s != "" {
			t.Errorf("%s: %q, %v", payload, s, err)
		}
	}
}

func TestQueryResponse(t *testing.T) {
	one := Value{Kind: Primitive, Raw: "1"}
	for payload, want := range map[string]QueryResult{
		`{"result":{}}`:                               {},
		`{"result":{"events":null,"x":1}}`:            {},
		`{"result":{"events":[]}}`:                    {Events: []RawEvent{}},
		`{"result":{"model":{"a":1},"query":"x"}}`:    {IsModel: true, Props: []Prop{{"a", one}}},
		`{"result":{"collection":[1],"events":null}}`: {IsCollection: true, Values: []Value{one}},
		`{"result":{"events":[{"event":"change","data":{ "values" : {"\u0061":1} }},{"event":"add","data":{"idx":0,"value":1}},{"event":"x"},{"event":"y","data":null}]}}`: {
			Events: []RawEvent{{"change", []byte(`{"values":{"\u0061":1}}`)}, {"add", []byte(`{"idx":0,"value":1}`)}, {"x", nil}, {"y", []byte("null")}},
		},
	} {
		var p Parser
		r, err := p.QueryResponse([]byte(payload))
		if err != nil {
			t.Errorf("%s: %v", payload, err)
		}
		// Reading each event with the same parser does not change the others.
		for _, e := range r.Events {
			_, _, _ = p.Change(e.Data)
			_, _, _ = p.Add(e.Data)
			_, _ = p.Custom(e.Data)
		}
		if d := cmp.Diff(want, r); d != "" {
			t.Errorf("%s: %s", payload, d)
		}
	}
	for _, result := range []string{
		`[]`, `"x"`, `{"events":"foo"}`, `{"events":{}}`, `{"model":[]}`, `{"collection":{}}`, `{"model":{},"events":[]}`, `{"collection":[],"events":[]}`,
		`{"model":{},"collection":[]}`, `{"model":{"a":{}}}`, `{"events":[1]}`, `{"events":[null]}`, `{"events":[{}]}`, `{"events":[{"event":""}]}`, `{"events":[{"event":1}]}`,
		`{"events":[{"event":"a.b"}]}`, `{"events":[{"event":"a b"}]}`, `{"events":[{"event":"*"}]}`,
	} {
		var p Parser
		if _, err := p.QueryResponse([]byte(`{"result":` + result + `}`)); err == nil || err.Code != CodeInternalError {
			t.Errorf("%s: %v", result, err)
		}
	}
	var p Parser
	if _, err := p.QueryResponse([]byte(`{"error":{"code":"system.notFound","message":"Gone"}}`)); !errors.Is(err, ErrNotFound) || err.Message != "Gone" {
		t.Errorf("not found: %v", err)
	}
}

func TestSystemReset(t *testing.T) {
	var p Parser
	for _, c := range []struct {
		payload           string
		resources, access []string
	}{
		{``, nil, nil},
		{`{}`, nil, nil},
		{` null`, nil, nil},
		{`{"resources":null,"access":null}`, nil, nil},
		{`{"resources":["a",null],"access":[null]}`, []string{"a", ""}, []string{""}}, // not a pattern, but the others stay valid
		{`{"resources":[],"access":["a.>"]}`, []string{}, []string{"a.>"}},
		{`{"resources":["a.*","\u0062.\ud83d"],"x":1}`, []string{"a.*", "b.\ufffd"}, nil},
		{`{"access":["a"],"access":["b"]}`, nil, []string{"b"}},
	} {
		r, a, err := p.SystemReset([]byte(c.payload))
		if err != nil || cmp.Diff(c.resources, r) != "" || cmp.Diff(c.access, a) != "" {
			t.Errorf("%s: %q, %q, %v", c.payload, r, a, err)
		}
	}
	for _, payload := range []string{`x`, `[]`, `"a"`, `{"resources":"a"}`, `{"resources":[1]}`, `{"resources":["a"],"access":{}}`} {
		if r, a, err := p.SystemReset([]byte(payload)); err == nil || r != nil || a != nil {
			t.Errorf("%s: %q, %q, %v", payload, r, a, err)
		}
	}
}

func TestTokenReset(t *testing.T) {
	var p Parser
	for _, c := range []struct {
		payload string
		tids    []string
		subject string
	}{
		{``, nil, ""},
		{`{}`, nil, ""},
		{`null`, nil, ""},
		{`{"tids":["1",null],"subject":"auth.x.renew"}`, []string{"1", ""}, "auth.x.renew"},
		{`{"tids":[],"subject":"a b"}`, nil, ""},
		{`{"tids":null}`, nil, ""},
		{`{"tids":["1","\u0032"],"subject":"auth.x.renew"}`, []string{"1", "2"}, "auth.x.renew"},
	} {
		tids, subject, err := p.TokenReset([]byte(c.payload))
		if err != nil || cmp.Diff(c.tids, tids) != "" || subject != c.subject {
			t.Errorf("%s: %q, %q, %v", c.payload, tids, subject, err)
		}
	}
	for payload, want := range map[string]error{
		`x`: ErrMalformed, `[]`: ErrForm, `{"tids":"a"}`: ErrForm, `{"tids":[1]}`: ErrForm,
		`{"tids":["a"]}`: ErrSubject, `{"tids":["a"],"subject":""}`: ErrSubject, `{"tids":["a"],"subject":1}`: ErrSubject, `{"tids":["a"],"subject":"a b"}`: ErrSubject,
		`{"tids":["a"],"subject":"a.>"}`: ErrSubject,
	} {
		if tids, subject, err := p.TokenReset([]byte(payload)); err != want || tids != nil || subject != "" {
			t.Errorf("%s: %q, %q, %v", payload, tids, subject, err)
		}
	}
}

func TestToken(t *testing.T) {
	var p Parser
	for _, c := range []struct{ payload, token, tid string }{
		{`{}`, "", ""},
		{`null`, "", ""},
		{" null\n", "", ""},
		{`{"tid":"x"}`, "", "x"},
		{`{"token":null}`, "", ""},
		{`{"token":null,"tid":"x"}`, "", "x"},
		{`{"token":{ "user" : "\u0041" },"tid":null}`, `{"user":"\u0041"}`, ""},
		{`{"token":"null","tid":"\u0041"}`, `"null"`, "A"},
		{`{"token":0}`, "0", ""},
		{`{"token":false}`, "false", ""},
		{`{"token":1,"token":[]}`, "[]", ""},
	} {
		if token, tid, err := p.Token([]byte(c.payload)); token != c.token || tid != c.tid || err != nil {
			t.Errorf("%s: %q, %q, %v", c.payload, token, tid, err)
		}
	}
	for _, payload := range []string{``, `x`, `"a"`, `0`, `false`, `[]`, `[null]`, `nul`, `{"token":1,"tid":2}`, `{"tid":{}}`} {
		if token, tid, err := p.Token([]byte(payload)); err == nil || token != "" || tid != "" {
			t.Errorf("%s: %q, %q, %v", payload, token, tid, err)
		}
	}
}
