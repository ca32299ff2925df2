package res

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestRequest(t *testing.T) {
	for _, c := range []struct {
		msg    string
		id     string
		kind   RequestType
		rid    string
		method string
		params string // "-" for none
	}{
		{`{"id":1,"method":"version"}`, "1", VersionRequest, "", "", "-"},
		{`{"id":1,"method":"version","params":{"protocol":"1.2.3"}}`, "1", VersionRequest, "", "", `{"protocol":"1.2.3"}`},
		{`{"id":0,"method":"subscribe.a"}`, "0", Subscribe, "a", "", "-"},
		{`{"id":12,"method":"subscribe.library.books?from=1.5&to=2"}`, "12", Subscribe, "library.books?from=1.5&to=2", "", "-"},
		{`{"id":12,"method":"subscribe.user.{cid}"}`, "12", Subscribe, "user.{cid}", "", "-"},
		{`{"id":3,"method":"unsubscribe.a.b","params":{"count":2}}`, "3", Unsubscribe, "a.b", "", `{"count":2}`},
		{`{"id":4,"method":"get.a.b","params":null}`, "4", Get, "a.b", "", "null"},
		{`{"id":5,"method":"call.a.b.set","params":{"x": [1, 2 ]}}`, "5", Call, "a.b", "set", `{"x":[1,2]}`},
		{`{"id":5,"method":"call.a.b?q=x.y.set"}`, "5", Call, "a.b?q=x.y", "set", "-"},
		{`{"id":5,"method":"call.a.new"}`, "5", Call, "a", "new", "-"},
		{`{"id":6,"method":"auth.a.login","params":"\u0041\/"}`, "6", Auth, "a", "login", `"\u0041\/"`},
		{`{"id":7,"method":"new.a.b","params":[]}`, "7", New, "a.b", "new", "[]"},
		// The response repeats the ID unchanged.
		{`{"id":-1.50e+3,"method":"get.a"}`, "-1.50e+3", Get, "a", "", "-"},
		{`{"id":18446744073709551616,"method":"get.a"}`, "18446744073709551616", Get, "a", "", "-"},
		// White space, order, unknown members, repeated ones, escaped names.
		{" {\t\"x\" : {\"id\":9} ,\r\n\"method\" : \"get.a\" , \"id\" : 1 } \n", "1", Get, "a", "", "-"},
		{`{"id":1,"id":2,"method":"get.a","method":"get.b","params":1,"params":2}`, "2", Get, "b", "", "2"},
		{`{"\u0069d":1,"m\u0065thod":"get.\u0061"}`, "1", Get, "a", "", "-"},
		// A lone surrogate becomes U+FFFD, which is valid in a query.
		{`{"id":1,"method":"get.a?\ud83d","params":["\ud83d"]}`, "1", Get, "a?\ufffd", "", `["\ufffd"]`},
		{`{"id":1,"method":"get.a?\ud83d\ude00"}`, "1", Get, "a?😀", "", "-"},
	} {
		var p Parser
		var r Request
		if err := p.Request([]byte(c.msg), &r); err != nil {
			t.Errorf("%s: %v", c.msg, err)
			continue
		}
		params := "-"
		if r.Params != nil {
			params = string(r.Params)
		}
		if r.ID != c.id || r.Type != c.kind || r.RID != c.rid || r.Method != c.method || params != c.params {
			t.Errorf("%s: %+v, params %s", c.msg, r, params)
		}
	}
}

func TestRequestWithoutAnswer(t *testing.T) {
	for msg, want := range map[string]error{
		``:                                       ErrMalformed,
		`x`:                                      ErrMalformed,
		`{"id":1`:                                ErrMalformed,
		`{"id":1,"method":"get.a","params":NaN}`: ErrMalformed,
		`{"id":inf,"method":"get.a"}`:            ErrMalformed,
		`{"id":01,"method":"get.a"}`:             ErrMalformed,
		"{\"id\":1,\"method\":\"get.a\",\"params\":\"\xff\"}": ErrMalformed,
		"{\"id\":1,\"method\":\"get.a\",\"params\":\"\n\"}":   ErrMalformed,
		`{"id":1,"method":"get.a","params":"\x"}`:             ErrMalformed,
		`{"id":1,"method":"get.a"} {}`:                        ErrMalformed,
		`null`:                                                ErrNoID,
		`42`:                                                  ErrNoID,
		`"get.a"`:                                             ErrNoID,
		`[]`:                                                  ErrNoID,
		`[{"id":1,"method":"get.a"}]`:                         ErrNoID,
		`{}`:                                                  ErrNoID,
		`{"method":"get.a"}`:                                  ErrNoID,
		`{"id":null,"method":"get.a"}`:                        ErrNoID,
		`{"id":"1","method":"get.a"}`:                         ErrNoID,
		`{"id":true,"method":"get.a"}`:                        ErrNoID,
		`{"id":{},"method":"get.a"}`:                          ErrNoID,
		`{"id":[1],"method":"get.a"}`:                         ErrNoID,
		`{"ID":1,"method":"get.a"}`:                           ErrNoID,
		`{"id":` + strings.Repeat("1", maxID+1) + `,"method":"get.a"}`:    ErrNoID,
		`{"id":1,"method":"get.a","params":` + strings.Repeat("[", 1<<16): ErrMalformed,
	} {
		var p Parser
		var r Request
		err := p.Request([]byte(msg), &r)
		if err != want {
			t.Errorf("%.80q: %v, want %v", msg, err, want)
		}
		if r.ID != "" || r.RID != "" || r.Params != nil {
			t.Errorf("%.80q: %+v", msg, r)
		}
	}
}

func TestInvalidRequest(t *testing.T) {
	for _, method := range []string{
		`""`, `"x"`, `"new"`, `"call"`, `"subscribe"`, `"unknown.a"`, `"Subscribe.a"`, `"."`, `".a"`, `"subscribe."`, `"version."`, `"version.a"`,
		`"call.a"`, `"call.a."`, `"call..a"`, `"call.a..b"`, `"call.a.methöd"`, `"call.a?b"`, `"call.a.m?b"`, `"call.a.*"`, `"call.a.m m"`, `"auth.a"`, `"call.?q.m"`,
		`"subscribe..a"`, `"subscribe.a..b"`, `"subscribe.a."`, `".subscribe.a"`, `"subscribe?a=b"`, `"subscribe.?a"`,
		`"subscribe.a\tb"`, `"subscribe.a\nb"`, `"subscribe.a b"`, `"subscribe.a\u0000"`, `"subscribe.a\ufffdb"`, `"subscribe.a\ud83d"`, `"subscribe.täst"`,
		`"subscribe.a.*.b"`, `"subscribe.a.>"`, `"get.*"`, `"new.>"`, `"unsubscribe. "`,
		`null`, `1`, `true`, `{}`, `["get.a"]`,
	} {
		var p Parser
		var r Request
		err := p.Request([]byte(`{"id":7,"params":[1],"method":`+method+`}`), &r)
		if err != error(ErrInvalidRequest) || r.ID != "7" || r.RID != "" || r.Method != "" || r.Params != nil {
			t.Errorf("method %s: %v, %+v", method, err, r)
		}
	}
	var p Parser
	var r Request
	if err := p.Request([]byte(`{"id":7}`), &r); err != error(ErrInvalidRequest) || r.ID != "7" {
		t.Errorf("no method: %v, %+v", err, r)
	}
}

// TestRequestLifetimes checks how long the documented results stay valid.
func TestRequestLifetimes(t *testing.T) {
	var p Parser
	var v RequestView
	msg := []byte(`{"id":1,"method":"call.a.b.set","params":{"count":3}}`)
	if err := p.View(msg, &v); err != nil {
		t.Fatal(err)
	}
	clear(msg)
	own := v.Own(nil)
	// Reading the params, or another message, does not change the view.
	if n, err := p.UnsubscribeCount(v.Params); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	if _, err := p.Get([]byte(`{"result":{"model":{"zzzzzz":"zzzzzzzzzzzzzzzzzzzzzzzzzz"}}}`)); err != nil {
		t.Fatal(err)
	}
	if string(v.ID) != "1" || string(v.RID) != "a.b" || string(v.Method) != "set" || string(v.Params) != `{"count":3}` {
		t.Fatalf("view changed: %+v", v)
	}
	if err := p.View([]byte(`{"id":9,"method":"call.x.y.zet","params":{"zount":9}}`), &v); err != nil {
		t.Fatal(err)
	}
	if own.ID != "1" || own.RID != "a.b" || own.Method != "set" {
		t.Fatalf("owned strings changed: %+v", own)
	}
	// Appending to one part must not write into the next.
	_ = append(v.ID, "xx"...)
	_ = append(v.RID, "xx"...)
	_ = append(v.Method, "xx"...)
	if string(v.RID) != "x.y" || string(v.Method) != "zet" || string(v.Params) != `{"zount":9}` {
		t.Fatalf("parts overlap: %+v", v)
	}
}

func TestRequestTypeString(t *testing.T) {
	var p Parser
	for k := range requestTypes {
		if k == VersionRequest {
			continue
		}
		var r Request
		if err := p.Request([]byte(`{"id":1,"method":"`+k.String()+`.a.b"}`), &r); err != nil || r.Type != k {
			t.Errorf("%v: %v, %v", k, r.Type, err)
		}
	}
	if s := requestTypes.String(); s != "unknown" {
		t.Error(s)
	}
}

func TestVersionParams(t *testing.T) {
	for _, c := range []struct {
		params, protocol string
		present, ok      bool
	}{
		{"", "", false, true},
		{"null", "", false, true},
		{"{}", "", false, true},
		{`{"foo":"bar"}`, "", false, true},
		{`{"protocol":null}`, "", false, true},
		{`{"protocol":""}`, "", true, true},
		{`{"protocol":"1.2.3"}`, "1.2.3", true, true},
		{`{"protocol":"1.2.3","protocol":"1.2.1"}`, "1.2.1", true, true},
		{`{"protocol":1.0}`, "", false, false},
		{`{"protocol":["1.2.3"]}`, "", false, false},
		{`""`, "", false, false},
		{`"1.2.3"`, "", false, false},
		{`["1.2.3"]`, "", false, false},
		{`1`, "", false, false},
		{`x`, "", false, false},
	} {
		var p Parser
		protocol, present, err := p.VersionParams([]byte(c.params))
		if protocol != c.protocol || present != c.present || (err == nil) != c.ok || err != nil && !errors.Is(err, ErrInvalidParams) {
			t.Errorf("%s: %q, %v, %v", c.params, protocol, present, err)
		}
	}
}

func TestUnsubscribeCount(t *testing.T) {
	for _, c := range []struct {
		params string
		n      int
	}{
		{"", 1}, {"null", 1}, {"{}", 1}, {`{"foo":2}`, 1}, {`{"count":null}`, 1},
		{`{"count":1}`, 1}, {`{"count":256}`, 256}, {`{"count":1,"count":2}`, 2},
		{`{"count":2147483647}`, 1<<31 - 1}, {`{"count":2147483648}`, 1<<31 - 1}, {`{"count":99999999999999999999}`, 1<<31 - 1},
		{`{"count":0}`, 0}, {`{"count":-1}`, 0}, {`{"count":-0}`, 0}, {`{"count":1.5}`, 0}, {`{"count":1e2}`, 0},
		{`{"count":"1"}`, 0}, {`{"count":true}`, 0}, {`{"count":[]}`, 0}, {`[]`, 0}, {`1`, 0}, {`"1"`, 0}, {`{`, 0},
	} {
		var p Parser
		n, err := p.UnsubscribeCount([]byte(c.params))
		if n != c.n || (err == nil) != (c.n > 0) || err != nil && !errors.Is(err, ErrInvalidParams) {
			t.Errorf("%s: %d, %v", c.params, n, err)
		}
	}
}

// The reason is in the data; code and message stay as RES.md section 5 has them.
func TestReasonOfInvalidParams(t *testing.T) {
	count := func(params string) *Error { _, err := new(Parser).UnsubscribeCount([]byte(params)); return err }
	version := func(params string) *Error { _, _, err := new(Parser).VersionParams([]byte(params)); return err }
	_, parsed := ParseVersion("1.x")
	for _, tt := range []struct {
		err    *Error
		reason string
	}{
		{count(`{"count":0}`), `"count must be a whole number above 0"`},
		{count(`{"count":"1"}`), `"count must be a whole number above 0"`},
		{count(`[1]`), `"params must be an object"`},
		{count(`{"a":"` + strings.Repeat("x", maxOptions) + `"}`), `"params are longer than 65536 bytes"`},
		{version(`{"protocol":1.2}`), `"protocol must be a string of three numbers below 1000, such as 1.2.3"`},
		{version(`"1.2.3"`), `"params must be an object"`},
		{parsed, `"protocol must be a string of three numbers below 1000, such as 1.2.3"`},
	} {
		want := `{"code":"system.invalidParams","message":"Invalid parameters","data":{"reason":` + tt.reason + `}}`
		if got := string(tt.err.AppendJSON(nil)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// FuzzRequest compares with encoding/json, and checks that results can be sent to services.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		`{"id":1,"method":"subscribe.a.b?c","params":null}`, `{"id":1,"method":"call.a.b.c","params":{"a":[1,"\ud83d"]}}`,
		`{"id":1,"method":"version","params":{"protocol":"1.2.3"}}`, `{"id":"x"}`, `{"id":1e5,"method":"auth.a.b"}`, `{"id":1,"method":"unsubscribe.a","params":{"count":2}}`,
		`{"id":1,"method":"new.a"}`, `[]`, `{"id":NaN}`, `{"\u0069d":1,"method":"get.\u0061"}`,
	} {
		f.Add([]byte(s))
	}
	var p Parser
	f.Fuzz(func(t *testing.T, msg []byte) {
		in := string(msg)
		var r Request
		err := p.Request(msg, &r)
		if string(msg) != in {
			t.Fatal("the message was written to")
		}
		valid := json.Valid(msg) && utf8.Valid(msg) && depth(msg) <= MaxDepth
		if !valid {
			if err != ErrMalformed {
				t.Fatalf("%q: %v", msg, err)
			}
			return
		}
		m, ok := decode(t, msg).(map[string]any)
		id, isNumber := m["id"].(json.Number)
		if !ok || !isNumber || len(id) > maxID {
			if err != ErrNoID {
				t.Fatalf("%q: %v", msg, err)
			}
			return
		}
		if r.ID != string(id) {
			t.Fatalf("%q: ID %q", msg, r.ID)
		}
		var answer *Error
		if errors.As(err, &answer) {
			wantRaw(t, string(AppendError(nil, r.ID, answer)))
			return
		}
		if err != nil {
			t.Fatalf("%q: %v", msg, err)
		}
		// The parts joined are the method.
		method := r.Type.String()
		if r.RID != "" {
			method += "." + r.RID
		}
		if r.Type == Call || r.Type == Auth {
			method += "." + r.Method
		}
		if method != m["method"] {
			t.Fatalf("%q: %+v", msg, r)
		}
		if r.Type != VersionRequest && (!ValidRID(r.RID) || r.Method != "" && !ValidPart(r.Method)) {
			t.Fatalf("%q: %+v", msg, r)
		}
		params, has := m["params"]
		if has != (r.Params != nil) {
			t.Fatalf("%q: params %q", msg, r.Params)
		}
		if has {
			wantRaw(t, string(r.Params))
			if !equalJSON(decode(t, r.Params), params) {
				t.Fatalf("%q: params %q", msg, r.Params)
			}
		}
		if protocol, present, err := p.VersionParams(r.Params); err == nil && present {
			_, _ = ParseVersion(protocol)
		}
		if n, err := p.UnsubscribeCount(r.Params); (err == nil) != (n > 0) {
			t.Fatalf("%q: count %d, %v", msg, n, err)
		}
		wantRaw(t, string(AppendEvent(nil, r.RID, "change", r.Params)))
		wantRaw(t, string(AppendCallRequest(nil, CallRequest{CID: "c", Params: r.Params})))
	})
}
