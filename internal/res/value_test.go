package res

import (
	"testing"
)

// valueTable has values of services, each in the form for current clients and in that for clients
// below 1.2.1.
var valueTable = []struct {
	in, raw, legacy string
	kind            Kind
	rid             string
}{
	{`"a"`, `"a"`, `"a"`, Primitive, ""},
	{`""`, `""`, `""`, Primitive, ""},
	{`"\u0041\/\n"`, `"\u0041\/\n"`, `"\u0041\/\n"`, Primitive, ""},
	{`"\ud83d"`, `"\ufffd"`, `"\ufffd"`, Primitive, ""},
	{`42`, `42`, `42`, Primitive, ""},
	{`-1.50E+3`, `-1.50E+3`, `-1.50E+3`, Primitive, ""},
	{`true`, `true`, `true`, Primitive, ""},
	{`false`, `false`, `false`, Primitive, ""},
	{`null`, `null`, `null`, Primitive, ""},
	{`{"data":42}`, `42`, `42`, Primitive, ""},
	{`{"data":"x y"}`, `"x y"`, `"x y"`, Primitive, ""},
	{`{"data":null}`, `null`, `null`, Primitive, ""},
	{`{ "data" : false }`, `false`, `false`, Primitive, ""},
	{`{"rid":"a.b"}`, `{"rid":"a.b"}`, `{"rid":"a.b"}`, Reference, "a.b"},
	{`{"rid":"a.b?c=\"d\""}`, `{"rid":"a.b?c=\"d\""}`, `{"rid":"a.b?c=\"d\""}`, Reference, `a.b?c="d"`},
	{`{"rid":"\u0061.b"}`, `{"rid":"\u0061.b"}`, `{"rid":"\u0061.b"}`, Reference, "a.b"},
	{`{"r\u0069d":"rid"}`, `{"r\u0069d":"rid"}`, `{"r\u0069d":"rid"}`, Reference, "rid"},
	{`{ "rid" : "a" , "soft" : false }`, `{"rid":"a","soft":false}`, `{"rid":"a","soft":false}`, Reference, "a"},
	{`{"rid":"a","soft":null}`, `{"rid":"a","soft":null}`, `{"rid":"a","soft":null}`, Reference, "a"},
	{`{"rid":"a","rid":"b"}`, `{"rid":"a","rid":"b"}`, `{"rid":"a","rid":"b"}`, Reference, "b"},
	{`{"rid":"a","x":[{}]}`, `{"rid":"a","x":[{}]}`, `{"rid":"a","x":[{}]}`, Reference, "a"},
	{`{"rid":"a.b","soft":true}`, `{"rid":"a.b","soft":true}`, `"a.b"`, SoftReference, "a.b"},
	{`{"soft":true,"rid":"a?\"\u0001"}`, `{"soft":true,"rid":"a?\"\u0001"}`, `"a?\"\u0001"`, SoftReference, "a?\"\x01"},
	{`{"data":{}}`, `{"data":{}}`, `"[Data]"`, Data, ""},
	{`{"data":[]}`, `{"data":[]}`, `"[Data]"`, Data, ""},
	{`{ "data" : { "a" : [ 1, {"rid":"no reference"} ] } }`, `{"data":{"a":[1,{"rid":"no reference"}]}}`, `"[Data]"`, Data, ""},
	{`{"d\u0061ta":{"\u0061\"":1},"x":1}`, `{"data":{"\u0061\"":1}}`, `"[Data]"`, Data, ""},
	{`{"data":1,"data":[2]}`, `{"data":[2]}`, `"[Data]"`, Data, ""},
	{`{"data":{},"soft":true}`, `{"data":{}}`, `"[Data]"`, Data, ""},
	{`{"action":"delete"}`, deleteRaw, deleteRaw, Delete, ""},
	{` { "action" : "delete" } `, deleteRaw, deleteRaw, Delete, ""},
}

// invalidValues are invalid on their own, and each makes its whole message invalid
var invalidValues = []string{
	`{}`, `[]`, `[1]`, `{"a":1}`, `{"soft":true}`, `{"RID":"a"}`,
	`{"rid":""}`, `{"rid":null}`, `{"rid":1}`, `{"rid":["a"]}`, `{"rid":"a..b"}`, `{"rid":"a b"}`, `{"rid":"a.*"}`, `{"rid":"ö"}`, `{"rid":"a\ud83d"}`, `{"rid":"?a"}`,
	`{"rid":"a","soft":1}`, `{"rid":"a","soft":"true"}`,
	`{"rid":"a","action":"delete"}`, `{"rid":"a","data":1}`, `{"rid":"a","data":null}`, `{"action":"delete","data":1}`, `{"rid":"a","action":"delete","data":1}`,
	`{"action":""}`, `{"action":"remove"}`, `{"action":null}`, `{"action":1}`, `{"action":"Delete"}`,
}

func TestValues(t *testing.T) {
	var p Parser
	for _, c := range valueTable {
		props, _, err := p.Change([]byte(`{"values":{"k":` + c.in + `}}`))
		if err != nil || len(props) != 1 {
			t.Errorf("%s: %v, %v", c.in, props, err)
			continue
		}
		v := props[0].Value
		if v.Kind != c.kind || v.Raw != c.raw || v.RID != c.rid {
			t.Errorf("%s: %+v", c.in, v)
		}
		if got := string(v.AppendJSON(nil, false)); got != c.raw {
			t.Errorf("%s: clients get %s", c.in, got)
		}
		if got := string(v.AppendJSON(nil, true)); got != c.legacy {
			t.Errorf("%s: older clients get %s", c.in, got)
		}
		if v.Special() != (c.raw != c.legacy) {
			t.Errorf("%s: special %v", c.in, v.Special())
		}
		wantRaw(t, v.Content())
		if c.kind == Data && dataPrefix+v.Content()+"}" != c.raw {
			t.Errorf("%s: content %s", c.in, v.Content())
		}
	}
}

func TestInvalidValues(t *testing.T) {
	var p Parser
	for _, in := range invalidValues {
		if _, _, err := p.Change([]byte(`{"values":{"a":1,"k":` + in + `}}`)); err == nil {
			t.Errorf("change takes %s", in)
		}
		if _, _, err := p.Add([]byte(`{"idx":0,"value":` + in + `}`)); err == nil {
			t.Errorf("add takes %s", in)
		}
		for _, form := range []string{`{"a":1,"k":` + in + `}`, `[1,` + in + `]`} {
			kind := map[byte]string{'{': "model", '[': "collection"}[form[0]]
			if _, err := p.Get([]byte(`{"result":{"` + kind + `":` + form + `}}`)); err == nil || err.Code != CodeInternalError {
				t.Errorf("get takes %s: %v", form, err)
			}
		}
	}
	// A delete action is a value only in a change event.
	if _, _, err := p.Add([]byte(`{"idx":0,"value":{"action":"delete"}}`)); err == nil {
		t.Error("add takes a delete action")
	}
	for _, form := range []string{`"model":{"k":{"action":"delete"}}`, `"collection":[{"action":"delete"}]`} {
		if _, err := p.Get([]byte(`{"result":{` + form + `}}`)); err == nil || err.Code != CodeInternalError {
			t.Errorf("get takes %s: %v", form, err)
		}
		if _, err := p.QueryResponse([]byte(`{"result":{` + form + `}}`)); err == nil || err.Code != CodeInternalError {
			t.Errorf("a query answer takes %s: %v", form, err)
		}
	}
}

func TestValueEqual(t *testing.T) {
	var p Parser
	value := func(s string) Value {
		t.Helper()
		props, _, err := p.Change([]byte(`{"values":{"k":` + s + `}}`))
		if err != nil {
			t.Fatal(s, err)
		}
		return props[0].Value
	}
	classes := [][]string{
		{`42`, `{"data":42}`},
		{`42.0`},
		{`"42"`},
		{`null`, `{"data":null}`},
		{`"a.b"`},
		{`"\u0061.b"`},
		{`{"rid":"a.b"}`, `{"rid":"\u0061.b"}`, `{"rid":"a.b","soft":false}`, `{"rid":"a.b","x":1}`},
		{`{"rid":"a.b?"}`},
		{`{"rid":"a.b","soft":true}`, `{"soft":true,"rid":"a.b"}`},
		{`{"rid":"a.c"}`},
		{`{"data":[42]}`, ` { "data" : [ 42 ] } `, `{"data":[42],"x":1}`},
		{`{"data":{"a":1}}`},
		{`{"data":{"a":2}}`},
		{`{"action":"delete"}`, `{"action":"delete","x":1}`},
	}
	for i, a := range classes {
		for j, b := range classes {
			for _, x := range a {
				for _, y := range b {
					if value(x).Equal(value(y)) != (i == j) {
						t.Errorf("%s equals %s: %v", x, y, i != j)
					}
				}
			}
		}
	}
}
