package res

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// malformed are payloads that are not a valid reply to any request.
var malformedAnswers = []string{
	``, ` `, `x`, `null`, `42`, `"a"`, `[]`, `[{"result":{}}]`, `{`, `{"result":{}`, `{"result":{}}x`, `{"result":NaN}`, "{\"result\":\"\xff\"}", "{\"result\":\"\n\"}",
	`{"result":"\x"}`, `{"error":"x"}`, `{"error":{}}`, `{"error":{"code":""}}`, `{"error":{"code":1}}`, `{"error":{"message":"x"}}`, `{"error":{"code":"a","message":1}}`,
	`{"result":{"get":true,"model":{}},"meta":1}`, `{"result":{"get":true,"model":{}},"meta":{"status":"200"}}`, `{"result":{"get":true,"model":{}},"meta":{"status":1.5}}`,
	`{"result":{"get":true,"model":{}},"meta":{"header":[]}}`, `{"result":{"get":true,"model":{}},"meta":{"header":{"A":"b"}}}`, `{"result":{"get":true,"model":{}},"meta":{"header":{"A":[1]}}}`,
	`{"result":{"get":true,"model":{}},"meta":{"header":{"A B":["x"]}}}`, `{"result":{"get":true,"model":{}},"meta":{"header":{"":["x"]}}}`,
	`{"result":{"get":true,"model":{}},"meta":{"header":{"A":["x\r\nB: y"]}}}`, `{"result":{"get":true,"model":{}},"meta":{"header":{"A":["x\u0000"]}}}`,
}

// each reads a payload as every kind of reply.
func each(payload string) map[string]*Error {
	var p Parser
	errs := map[string]*Error{}
	_, _, errs["access"] = p.Access([]byte(payload))
	_, errs["get"] = p.Get([]byte(payload))
	_, _, errs["call"] = p.Call([]byte(payload), "set")
	_, errs["query"] = p.QueryResponse([]byte(payload))
	return errs
}

func TestMalformedAnswers(t *testing.T) {
	for _, payload := range malformedAnswers {
		for kind, err := range each(payload) {
			if err == nil || err.Code != CodeInternalError || !strings.HasPrefix(err.Message, "Internal error: ") || !err.Invalid() {
				t.Errorf("%s %q: %v", kind, payload, err)
			}
		}
	}
	for _, payload := range []string{`{}`, `{"x":1}`, `{"error":null}`, `{"resource":null}`, `{"Result":{"get":true}}`, `{"result":{}, "error":null, "result":null}`} {
		for kind, err := range each(payload) {
			if kind == "call" && strings.Contains(payload, `"result":null`) {
				continue // null is a valid result of a call
			}
			if err != errMissingResult {
				t.Errorf("%s %q: %v", kind, payload, err)
			}
		}
	}
}

func TestErrorAnswers(t *testing.T) {
	for payload, want := range map[string]Error{
		`{"error":{"code":"system.notFound","message":"Not found"}}`:                                    {Code: CodeNotFound, Message: "Not found"},
		`{"error":{"code":"my.code","message":"a \"b\"","data":{ "x" : [ "\u0041" ] }}}`:                {Code: "my.code", Message: `a "b"`, Data: `{"x":["\u0041"]}`},
		`{"error":{"code":"my.code"}}`:                                                                  {Code: "my.code"},
		`{"error":{"code":"my.code","message":null,"data":null}}`:                                       {Code: "my.code"},
		`{"error":{"code":"my.code","message":"","data":"null"}}`:                                       {Code: "my.code", Data: `"null"`},
		`{"error":{"code":"my.code","message":"","data":0}}`:                                            {Code: "my.code", Data: `0`},
		`{"error":{"code":"a","message":"b"},"error":{"code":"c","message":"\ud83d"}}`:                  {Code: "c", Message: "\ufffd"},
		`{"result":{"get":true,"model":{},"events":[]},"error":{"code":"wins","message":"m"}}`:          {Code: "wins", Message: "m"},
		`{"error":{"code":"wins","message":"m"},"resource":{"rid":"a"},"result":1,"meta":{"status":1}}`: {Code: "wins", Message: "m"},
		`{"error":{"code":"wins","message":"m"},"resource":1,"meta":"no meta"}`:                         {Code: "wins", Message: "m"},
	} {
		for kind, err := range each(payload) {
			if err == nil || *err != want {
				t.Errorf("%s %s: %+v", kind, payload, err)
			}
		}
	}
}

// An error without a code keeps the service's message and data.
func TestErrorAnswersWithoutCode(t *testing.T) {
	for payload, want := range map[string]string{
		`{"error":{"message":"disk full"}}`:                          `{"message":"disk full"}`,
		`{"error":{"code":"","message":"a \"b\"","data":{"x":1}}}`:   `{"message":"a \"b\"","data":{"x":1}}`,
		`{"error":{"code":null,"message":"a","data":null}}`:          `{"message":"a"}`,
		`{"error":{"code":404,"message":"a"}}`:                       `{"message":"a"}`,
		`{"error":{"data":[ 1 ]}}`:                                   `{"data":[1]}`,
		`{"error":{"code":"a.b","message":1,"data":[1]}}`:            `{"data":[1]}`,
		`{"error":"disk full"}`:                                      `{"message":"disk full"}`,
		`{"error":{}}`:                                               ``,
		`{"error":{"code":"","message":""}}`:                         ``,
		`{"error":""}`:                                               ``,
		`{"error":{"message":"\ud83d"},"result":{"get":true}}`:       `{"message":"\ufffd"}`,
		`{"error":{"message":"a"},"result":1,"meta":{"status":503}}`: `{"message":"a"}`,
	} {
		for kind, err := range each(payload) {
			if err == nil || err.Code != CodeInternalError || err.Message != errInvalidResponse.Message || err.Data != strings.ReplaceAll(want, `\ufffd`, "\ufffd") || !err.Invalid() {
				t.Errorf("%s %s: %+v", kind, payload, err)
			}
		}
	}
	for kind, err := range each(`{"error":{"code":"system.internalError","message":"Internal error: x"}}`) {
		if err.Invalid() {
			t.Errorf("%s: a service's own internal error counts as invalid", kind)
		}
	}
}

func TestAccess(t *testing.T) {
	for payload, want := range map[string]AccessResult{
		`{"result":{}}`:                                           {},
		`{"result":{"get":true}}`:                                 {Get: true},
		`{"result":{"get":false,"call":""}}`:                      {},
		`{"result":{"get":null,"call":null}}`:                     {},
		`{"result":{"get":true,"call":"*"}}`:                      {Get: true, Call: "*"},
		`{"result":{"call":"set,d\u0065lete"}}`:                   {Call: "set,delete"},
		`{"result":{"get":true,"get":false}}`:                     {},
		`{"resource":{"rid":"a"},"result":{"get":true}}`:          {Get: true},
		`{"result":{"get":true,"x":{}},"meta":null,"error":null}`: {Get: true},
	} {
		var p Parser
		if a, meta, err := p.Access([]byte(payload)); a != want || meta != nil || err != nil {
			t.Errorf("%s: %+v, %v, %v", payload, a, meta, err)
		}
	}
	for _, result := range []string{`true`, `"*"`, `[]`, `{"get":1}`, `{"get":"true"}`, `{"call":["set"]}`, `{"call":true}`} {
		var p Parser
		if a, _, err := p.Access([]byte(`{"result":` + result + `}`)); err != errInvalidResponse || a != (AccessResult{}) {
			t.Errorf("%s: %+v, %v", result, a, err)
		}
	}
}

func TestCanCall(t *testing.T) {
	for _, c := range []struct {
		list string
		yes  []string
		no   []string
	}{
		{"", nil, []string{"set", "", "*"}},
		{"*", []string{"set", "x"}, nil},
		{"set", []string{"set"}, []string{"se", "sets", "et", "", "*"}},
		{"set,delete,new", []string{"set", "delete", "new"}, []string{"set,delete", "elete", "ne", ","}},
		{"set,*", []string{"set"}, []string{"delete"}},
	} {
		for _, m := range c.yes {
			if !(AccessResult{Call: c.list}).CanCall(m) {
				t.Errorf("%q denies %q", c.list, m)
			}
		}
		for _, m := range c.no {
			if (AccessResult{Get: true, Call: c.list}).CanCall(m) {
				t.Errorf("%q grants %q", c.list, m)
			}
		}
	}
}

func TestMeta(t *testing.T) {
	for payload, want := range map[string]*Meta{
		`"meta":null`:                          nil,
		`"meta":{}`:                            {},
		`"meta":{"status":null,"header":null}`: {},
		`"meta":{"status":302,"header":{"location":["/x"]}}`: {Status: 302, Header: map[string][]string{"Location": {"/x"}}},
		`"meta":{"status":-1,"header":{}}`:                   {Status: -1, Header: map[string][]string{}},
		`"meta":{"header":{"set-cookie":["a=1","b=2"],"Set-Cookie":["c=\t\u00e9"],"X":[],"Y":null}}`: {
			Header: map[string][]string{"Set-Cookie": {"a=1", "b=2", "c=\té"}, "X": nil, "Y": nil},
		},
	} {
		var p Parser
		_, fromAccess, err1 := p.Access([]byte(`{"result":{},` + payload + `}`))
		_, fromCall, err2 := p.Call([]byte(`{"result":{},`+payload+`}`), "")
		_, withError, err3 := p.Call([]byte(`{"error":{"code":"x"},`+payload+`}`), "")
		_, withoutResult, err4 := p.Access([]byte(`{` + payload + `}`))
		if err1 != nil || err2 != nil || err3 == nil || err4 != errMissingResult {
			t.Errorf("%s: %v, %v, %v, %v", payload, err1, err2, err3, err4)
		}
		for _, m := range []*Meta{fromAccess, fromCall, withError, withoutResult} {
			if d := cmp.Diff(want, m); d != "" {
				t.Errorf("%s: %s", payload, d)
			}
		}
	}
}

func TestGet(t *testing.T) {
	str := func(raw string) Value { return Value{Kind: Primitive, Raw: raw} }
	for payload, want := range map[string]GetResult{
		`{"result":{"model":{}}}`:                         {IsModel: true},
		`{"result":{"collection":[]}}`:                    {IsCollection: true, Values: []Value{}},
		`{"result":{"collection":[],"model":null}}`:       {IsCollection: true, Values: []Value{}},
		`{"result":{"model":{},"events":[],"x":{}}}`:      {IsModel: true},
		`{"result":{"model":{"a":1},"query":"q=\u0031"}}`: {IsModel: true, Props: []Prop{{"a", str("1")}}, Query: "q=1"},
		`{"result":{"model":{"a":1},"query":null}}`:       {IsModel: true, Props: []Prop{{"a", str("1")}}},
		`{"result":{"model":{"b":2,"":0,"a":1,"\u0063\"":"\u0064","b":3,"ö":4,"a":"5"}}}`: {
			IsModel: true, Props: []Prop{{"", str("0")}, {"a", str(`"5"`)}, {"b", str("3")}, {`c"`, str(`"\u0064"`)}, {"ö", str("4")}},
		},
		`{"result":{"collection":["a", {"rid":"x.y"} ,{"data":1},{"data":{}},{"rid":"z","soft":true}],"query":""}}`: {
			IsCollection: true, Values: []Value{
				str(`"a"`), {Reference, `{"rid":"x.y"}`, "x.y"}, str("1"), {Data, `{"data":{}}`, ""}, {SoftReference, `{"rid":"z","soft":true}`, "z"},
			},
		},
	} {
		var p Parser
		r, err := p.Get([]byte(payload))
		if err != nil {
			t.Errorf("%s: %v", payload, err)
		}
		if d := cmp.Diff(want, r); d != "" {
			t.Errorf("%s: %s", payload, d)
		}
	}
	for _, result := range []string{
		`{}`, `[]`, `"x"`, `{"query":"a"}`, `{"model":null}`, `{"model":null,"collection":null}`, `{"model":{},"collection":[]}`, `{"model":[]}`, `{"collection":{}}`,
		`{"model":"x"}`, `{"collection":1}`, `{"model":{},"query":1}`, `{"collection":[[]]}`, `{"model":{"a":{}}}`, `{"events":[]}`,
	} {
		var p Parser
		if _, err := p.Get([]byte(`{"result":` + result + `}`)); err == nil || err.Code != CodeInternalError {
			t.Errorf("%s: %v", result, err)
		}
	}
}

// TestGetLarge crosses the bounds at which text is cut into several strings and memory is given
// back.
func TestGetLarge(t *testing.T) {
	const n = 20_000
	var model, collection strings.Builder
	for i := range n {
		sep := ","
		if i == 0 {
			sep = ""
		}
		// Descending keys, and references whose rid has an escape and so is not a substring of the
		// raw text.
		model.WriteString(sep + `"k` + pad(n-i) + `":{"rid":"\u0061.` + pad(n-i) + `"}`)
		collection.WriteString(sep + `{"rid":"b.` + pad(i) + `"}`)
	}
	var p Parser
	for range 2 {
		r, err := p.Get([]byte(`{"result":{"model":{` + model.String() + `}}}`))
		if err != nil || len(r.Props) != n {
			t.Fatal(len(r.Props), err)
		}
		for i, prop := range r.Props {
			if s := pad(i + 1); prop.Key != "k"+s || prop.Value.RID != "a."+s || prop.Value.Raw != `{"rid":"\u0061.`+s+`"}` {
				t.Fatalf("%d: %+v", i, prop)
			}
		}
		c, err := p.Get([]byte(`{"result":{"collection":[` + collection.String() + `]}}`))
		if err != nil || len(c.Values) != n {
			t.Fatal(len(c.Values), err)
		}
		for i, v := range c.Values {
			if s := pad(i); v.RID != "b."+s || v.Raw != `{"rid":"b.`+s+`"}` {
				t.Fatalf("%d: %+v", i, v)
			}
		}
		if p.fed != 0 || cap(p.buf) > keepScratch || cap(p.text) > keepScratch || len(p.cuts) > 0 {
			t.Fatalf("the parser keeps %d fed, %d, %d, %d", p.fed, cap(p.buf), cap(p.text), len(p.cuts))
		}
	}
}

func pad(i int) string {
	s := "000000"
	b := []byte(s)
	for at := len(b) - 1; i > 0; at-- {
		b[at] = byte('0' + i%10)
		i /= 10
	}
	return string(b)
}

func TestCall(t *testing.T) {
	for _, c := range []struct{ payload, method, want, rid string }{
		{`{"result":null}`, "set", "null", ""},
		{`{"result": { "a" : [ "\u0041" ] } }`, "set", `{"a":["\u0041"]}`, ""},
		{`{"result":"\ud83d"}`, "set", `"\ufffd"`, ""},
		{`{"result":1,"result":2}`, "set", `2`, ""},
		{`{"result":1,"resource":null}`, "set", "1", ""},
		{`{"result":{"rid":"a.b"}}`, "set", `{"rid":"a.b"}`, ""},
		{`{"result":{"rid":"a.b"}}`, "", `{"rid":"a.b"}`, ""},
		{`{"resource":{"rid":"a.b"}}`, "set", "", "a.b"},
		{`{"resource":{"rid":"a.b?c","x":1},"result":1}`, "", "", "a.b?c"},
		{`{"resource":{"rid":"a.b"}}`, "new", "", "a.b"},
		{`{"result":{"rid":"a.b","x":1}}`, "new", `{"rid":"a.b","x":1}`, ""},
		{`{"result":{"rid":1}}`, "new", `{"rid":1}`, ""},
		{`{"result":{"rid":null}}`, "new", `{"rid":null}`, ""},
		{`{"result":{}}`, "new", `{}`, ""},
		{`{"result":["rid"]}`, "new", `["rid"]`, ""},
		{`{"result":"a.b"}`, "new", `"a.b"`, ""},
	} {
		var p Parser
		r, _, err := p.Call([]byte(c.payload), c.method)
		if err != nil || string(r.Payload) != c.want || r.RID != c.rid || r.Legacy || (r.Payload == nil) != (c.want == "") {
			t.Errorf("%s %s: %+v, %v", c.method, c.payload, r, err)
		}
	}
	var p Parser
	if r, _, err := p.Call([]byte(`{"result": {"\u0072id":"a.\u0062"} }`), "new"); err != nil || r.RID != "a.b" || !r.Legacy || r.Payload != nil {
		t.Errorf("legacy: %+v, %v", r, err)
	}
	for _, payload := range []string{
		`{"resource":{}}`, `{"resource":"a.b"}`, `{"resource":{"rid":""}}`, `{"resource":{"rid":1}}`, `{"resource":{"rid":"a..b"}}`, `{"resource":{"rid":"a.*"},"result":1}`,
		`{"resource":{"rid":null}}`, `{"resource":[]}`,
		`{"result":{"rid":""}}`, `{"result":{"rid":"a b"}}`, // with "new"
	} {
		if r, _, err := p.Call([]byte(payload), "new"); err != errInvalidResponse {
			t.Errorf("%s: %+v, %v", payload, r, err)
		}
	}
}
