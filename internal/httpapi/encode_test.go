package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"sluice/fanout"
	"sluice/internal/res"
	"sluice/internal/session"
)

const plainModel = `{"bool":true,"int":42,"null":null,"string":"foo"}`

// world has a resource of each kind, and references between them of each kind.
var world = resources{
	"m":        plainModel,
	"m.parent": `{"child":{"rid":"m"},"name":"parent"}`,
	"m.grand":  `{"child":{"rid":"m.parent"},"name":"grand"}`,
	"m.broken": `{"child":{"rid":"err"},"name":"broken"}`,
	"m.soft":   `{"child":{"rid":"m","soft":true}}`,
	"m.data":   `{"array":{"data":[{"foo":"bar"}]},"object":{"data":{"foo":["bar"]}},"primitive":{"data":12}}`,
	"m.holder": `{"a":{"rid":"m.soft"},"b":{"rid":"m.data"},"c":{"rid":"m.empty"}}`,
	"m.twice":  `{"a":{"rid":"m"},"b":{"rid":"m"}}`,
	"m.query":  `{"a":{"rid":"m?q=1"},"b":{"rid":"m?\"","soft":true}}`,
	"m.empty":  `{}`,
	"m.keys":   `{"":{"rid":"c.empty"},"\"\n":{"rid":"c.empty"}}`,
	"m?q=1":    plainModel,
	"m?\"":     plainModel,
	"c":        `["foo",42,true,null]`,
	"c.parent": `["parent",{"rid":"c"}]`,
	"c.mixed":  `[{"rid":"m"},{"rid":"c"},{"rid":"err"},{"rid":"c.soft"}]`,
	"c.soft":   `[{"rid":"c","soft":true},{"data":[1]}]`,
	"c.empty":  `[]`,
	"err":      `{"code":"system.notFound","message":"Not found"}`,
	"err.data": `{"code":"custom.\"","message":"Custom","data":{"a":[1]}}`,
	"m.err":    `{"a":{"rid":"err.data"}}`,
	// a ↺; b → c → b; d → e, f → d; g → e, f; h → e
	"a": `{"a":{"rid":"a"}}`, "b": `{"c":{"rid":"bc"}}`, "bc": `{"b":{"rid":"b"}}`,
	"d": `{"e":{"rid":"e"},"f":{"rid":"f"}}`, "e": `{"d":{"rid":"d"}}`, "f": `{"d":{"rid":"d"}}`,
	"g": `{"e":{"rid":"e"},"f":{"rid":"f"}}`, "h": `{"e":{"rid":"e"}}`,
	"la": `[{"rid":"la"}]`, "lb": `[{"rid":"lc"}]`, "lc": `[{"rid":"lb"}]`,
}

// RES.md section 4: the two encodings.
func TestEncodings(t *testing.T) {
	for _, tt := range []struct{ rid, json, flat string }{
		{"m", plainModel, plainModel},
		{"m.empty", `{}`, `{}`},
		{"c.empty", `[]`, `[]`},
		{"m.parent", `{"child":{"href":"/api/m","model":` + plainModel + `},"name":"parent"}`, `{"child":` + plainModel + `,"name":"parent"}`},
		{"m.grand", `{"child":{"href":"/api/m/parent","model":{"child":{"href":"/api/m","model":` + plainModel + `},"name":"parent"}},"name":"grand"}`,
			`{"child":{"child":` + plainModel + `,"name":"parent"},"name":"grand"}`},
		{"m.broken", `{"child":{"href":"/api/err","error":{"code":"system.notFound","message":"Not found"}},"name":"broken"}`,
			`{"child":{"code":"system.notFound","message":"Not found"},"name":"broken"}`},
		{"m.err", `{"a":{"href":"/api/err/data","error":{"code":"custom.\"","message":"Custom","data":{"a":[1]}}}}`,
			`{"a":{"code":"custom.\"","message":"Custom","data":{"a":[1]}}}`},
		{"m.soft", `{"child":{"href":"/api/m"}}`, `{"child":{"href":"/api/m"}}`},
		{"m.data", `{"array":[{"foo":"bar"}],"object":{"foo":["bar"]},"primitive":12}`, `{"array":[{"foo":"bar"}],"object":{"foo":["bar"]},"primitive":12}`},
		{"m.holder", `{"a":{"href":"/api/m/soft","model":{"child":{"href":"/api/m"}}},` +
			`"b":{"href":"/api/m/data","model":{"array":[{"foo":"bar"}],"object":{"foo":["bar"]},"primitive":12}},"c":{"href":"/api/m/empty","model":{}}}`,
			`{"a":{"child":{"href":"/api/m"}},"b":{"array":[{"foo":"bar"}],"object":{"foo":["bar"]},"primitive":12},"c":{}}`},
		{"m.twice", `{"a":{"href":"/api/m","model":` + plainModel + `},"b":{"href":"/api/m","model":` + plainModel + `}}`,
			`{"a":` + plainModel + `,"b":` + plainModel + `}`},
		{"m.query", `{"a":{"href":"/api/m?q=1","model":` + plainModel + `},"b":{"href":"/api/m%3F%22"}}`,
			`{"a":` + plainModel + `,"b":{"href":"/api/m%3F%22"}}`},
		{"m.keys", `{"":{"href":"/api/c/empty","collection":[]},"\"\n":{"href":"/api/c/empty","collection":[]}}`, `{"":[],"\"\n":[]}`},
		{"c", `["foo",42,true,null]`, `["foo",42,true,null]`},
		{"c.parent", `["parent",{"href":"/api/c","collection":["foo",42,true,null]}]`, `["parent",["foo",42,true,null]]`},
		{"c.mixed", `[{"href":"/api/m","model":` + plainModel + `},{"href":"/api/c","collection":["foo",42,true,null]},` +
			`{"href":"/api/err","error":{"code":"system.notFound","message":"Not found"}},{"href":"/api/c/soft","collection":[{"href":"/api/c"},[1]]}]`,
			`[` + plainModel + `,["foo",42,true,null],{"code":"system.notFound","message":"Not found"},[{"href":"/api/c"},[1]]]`},
		{"a", `{"a":{"href":"/api/a"}}`, `{"a":{"href":"/api/a"}}`},
		{"b", `{"c":{"href":"/api/bc","model":{"b":{"href":"/api/b"}}}}`, `{"c":{"b":{"href":"/api/b"}}}`},
		{"d", `{"e":{"href":"/api/e","model":{"d":{"href":"/api/d"}}},"f":{"href":"/api/f","model":{"d":{"href":"/api/d"}}}}`,
			`{"e":{"d":{"href":"/api/d"}},"f":{"d":{"href":"/api/d"}}}`},
		{"g", `{"e":{"href":"/api/e","model":{"d":{"href":"/api/d","model":{"e":{"href":"/api/e"},"f":{"href":"/api/f","model":{"d":{"href":"/api/d"}}}}}}},` +
			`"f":{"href":"/api/f","model":{"d":{"href":"/api/d","model":{"e":{"href":"/api/e","model":{"d":{"href":"/api/d"}}},"f":{"href":"/api/f"}}}}}}`,
			`{"e":{"d":{"e":{"href":"/api/e"},"f":{"d":{"href":"/api/d"}}}},"f":{"d":{"e":{"d":{"href":"/api/d"}},"f":{"href":"/api/f"}}}}`},
		{"h", `{"e":{"href":"/api/e","model":{"d":{"href":"/api/d","model":{"e":{"href":"/api/e"},"f":{"href":"/api/f","model":{"d":{"href":"/api/d"}}}}}}}}`,
			`{"e":{"d":{"e":{"href":"/api/e"},"f":{"d":{"href":"/api/d"}}}}}`},
		{"la", `[{"href":"/api/la"}]`, `[{"href":"/api/la"}]`},
		{"lb", `[{"href":"/api/lc","collection":[{"href":"/api/lb"}]}]`, `[[{"href":"/api/lb"}]]`},
	} {
		g := world.graph(t, tt.rid)
		for encoding, want := range map[string]string{"json": tt.json, "jsonFlat": tt.flat, "JSON": tt.json} {
			got, err := New(Options{Encoding: encoding}, nil).AppendGraph([]byte("before "), g)
			if err != nil || string(got) != "before "+want {
				t.Errorf("%s as %s:\ngot  %s, %v\nwant %s", tt.rid, encoding, got, err, want)
			}
		}
	}
}

func TestEncodingOfMissingResources(t *testing.T) {
	h := New(Options{}, nil)
	for rid, want := range map[string]*res.Error{"err": res.ErrNotFound, "nowhere": res.ErrInternal} {
		if got, err := h.AppendGraph([]byte("x"), world.graph(t, rid)); string(got) != "x" || err == nil || err.Code != want.Code {
			t.Errorf("%s: %q, %v", rid, got, err)
		}
	}
	g := resources{"a": `[{"rid":"gone"}]`}.graph(t, "a")
	if got, err := h.AppendGraph(nil, g); err != nil || string(got) != `[{"href":"/api/gone","error":{"code":"system.internalError","message":"Internal error"}}]` {
		t.Errorf("reference to a resource that is not in the graph: %s, %v", got, err)
	}
}

func TestUnknownEncodingPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("New accepted an unknown encoding")
		}
	}()
	New(Options{Encoding: "xml"}, nil)
}

// A graph of n resources can unfold to 2ⁿ: its text is bounded, and so is the time.
func TestEncodingIsBounded(t *testing.T) {
	all := resources{}
	const layers = 60
	for i := range layers {
		all[fmt.Sprint("n", i)] = fmt.Sprintf(`[{"rid":"n%d"},{"rid":"n%d"}]`, i+1, i+1)
	}
	all[fmt.Sprint("n", layers)] = `["leaf"]`
	for _, encoding := range []string{"json", "jsonflat"} {
		h := New(Options{Encoding: encoding, MaxResponse: 1 << 20, Metrics: new(Metrics)}, nil)
		got, err := h.AppendGraph([]byte("x"), all.graph(t, "n0"))
		if err == nil || err.Code != res.CodeInternalError || string(got) != "x" {
			t.Errorf("%s: %d bytes, %v", encoding, len(got), err)
		}
		if cap(got) > 8<<20 {
			t.Errorf("%s: %d bytes of memory for at most 1 MiB", encoding, cap(got))
		}
		if n := h.o.Metrics.TooLarge.Load(); n != 1 {
			t.Errorf("counted %d", n)
		}
	}
}

// The limit is exact, wherever in the text it is exceeded.
func TestEncodingLimit(t *testing.T) {
	for rid := range world {
		if rid == "err" || rid == "err.data" {
			continue
		}
		g := world.graph(t, rid)
		whole, err := New(Options{}, nil).AppendGraph(nil, g)
		if err != nil {
			t.Fatal(err)
		}
		for limit := 1; limit <= len(whole); limit++ {
			h := New(Options{MaxResponse: limit}, nil)
			got, err := h.AppendGraph(nil, g)
			if limit < len(whole) && (err == nil || len(got) != 0) || limit == len(whole) && (err != nil || len(got) != limit) {
				t.Errorf("%s of %d bytes with the limit %d: %d bytes, %v", rid, len(whole), limit, len(got), err)
			}
			buf := buffers.Get().(*buffer)
			if _, _, ok, err := h.encode(buf, g, 0); !ok || (err == nil) != (limit == len(whole)) {
				t.Errorf("%s of %d bytes with the limit %d as a response: %v", rid, len(whole), limit, err)
			}
			// A quick attempt is not an error, and is not counted.
			h = New(Options{}, nil)
			buf.free()
			buf = buffers.Get().(*buffer)
			if text, _, ok, err := h.encode(buf, g, limit); ok != (limit == len(whole)) || err != nil || ok && !bytes.Equal(text, whole) {
				t.Errorf("%s of %d bytes, quick to %d: %v, %v", rid, len(whole), limit, ok, err)
			}
			if h.o.Metrics.TooLarge.Load() > 0 {
				t.Error("counted a quick attempt")
			}
			buf.free()
		}
	}
}

// A chain of references longer than MaxDepth ends with an href, and does not grow a goroutine
// stack.
func TestEncodingDepth(t *testing.T) {
	all := resources{}
	const chain = 50_000
	for i := range chain {
		all[fmt.Sprint("n", i)] = fmt.Sprintf(`{"next":{"rid":"n%d"}}`, i+1)
	}
	all[fmt.Sprint("n", chain)] = `{}`
	g := all.graph(t, "n0")
	got, err := New(Options{Encoding: "jsonflat"}, nil).AppendGraph(nil, g)
	want := strings.Repeat(`{"next":`, MaxDepth) + fmt.Sprintf(`{"href":"/api/n%d"}`, MaxDepth) + strings.Repeat("}", MaxDepth)
	if err != nil || string(got) != want {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if got, err = New(Options{}, nil).AppendGraph(nil, g); err != nil || !json.Valid(got) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// The shared text of a resource without references equals the text of the walk.
func TestShortcutsChangeNothing(t *testing.T) {
	for _, rid := range []string{"m", "c", "m.empty", "c.empty", "m.soft", "m.parent"} {
		h := New(Options{}, nil)
		g := world.graph(t, rid)
		buf := buffers.Get().(*buffer)
		short, _, _, err1 := h.encode(buf, g, 0)
		long, err2 := h.AppendGraph(nil, g)
		if err1 != nil || err2 != nil || string(short) != string(long) {
			t.Errorf("%s: %s, %v and %s, %v", rid, short, err1, long, err2)
		}
		buf.free()
	}
}

// For graphs of any shape, the text is valid JSON, within the limit, and equal to that of plain, a
// recursive reference implementation.
func FuzzEncode(f *testing.F) {
	f.Add([]byte{3, 2, 0x10, 1, 0x11, 2, 1, 0x10, 0, 1, 0x20, 5}, "key", true)
	f.Add([]byte{1, 1, 0x10, 0}, "\"\xff\n", false)
	f.Add([]byte{5, 9, 0x10, 1, 0x10, 2, 0x10, 3, 0x10, 4, 0x10, 9, 0x30, 1, 0x40, 2, 0x00, 0, 0x10, 0}, "", true)
	f.Fuzz(func(t *testing.T, shape []byte, text string, flat bool) {
		g := shapeGraph(shape, text, t)
		h := New(Options{MaxResponse: 1 << 14}, nil)
		h.flat = flat
		got, err := h.AppendGraph(nil, g)
		want, fits := h.plain(nil, g, g.Root, nil, false)
		switch {
		case err != nil && g.Resources[g.Root].Err != nil:
		case err != nil && fits:
			t.Fatalf("rejected: %v", err)
		case err == nil && !fits:
			t.Fatalf("accepted %d bytes", len(got))
		case err == nil && string(got) != string(want):
			t.Fatalf("got  %s\nwant %s", got, want)
		case err == nil && !json.Valid(got):
			t.Fatalf("invalid JSON: %s", got)
		}
	})
}

// shapeGraph makes a graph of up to eight resources from bytes.
func shapeGraph(shape []byte, text string, t *testing.T) *session.Graph {
	next := func() byte {
		if len(shape) == 0 {
			return 0
		}
		b := shape[0]
		shape = shape[1:]
		return b
	}
	quoted := string(res.AppendString(nil, text))
	all := resources{}
	n := int(next())%8 + 1
	for i := range n {
		var values []string
		for range int(next()) % 10 {
			kind, arg := next(), next()
			switch rid := fmt.Sprint("r", int(arg)%(n+1)); kind >> 4 {
			case 1:
				values = append(values, `{"rid":"`+rid+`"}`)
			case 2:
				values = append(values, `{"rid":"`+rid+`","soft":true}`)
			case 3:
				values = append(values, `{"data":{"d":[`+quoted+`]}}`)
			case 4:
				values = append(values, quoted)
			case 5:
				values = append(values, `{"rid":`+string(res.AppendString(nil, "q?"+text))+`}`)
			default:
				values = append(values, fmt.Sprint(arg))
			}
		}
		if i%2 == 0 {
			for j := range values {
				values[j] = string(res.AppendString(nil, fmt.Sprint(j, text))) + ":" + values[j]
			}
			all[fmt.Sprint("r", i)] = "{" + strings.Join(values, ",") + "}"
		} else {
			all[fmt.Sprint("r", i)] = "[" + strings.Join(values, ",") + "]"
		}
	}
	all[fmt.Sprint("r", n)] = `{"code":"a.b","message":` + quoted + `}`
	return all.graph(t, "r0")
}

// plain implements the encodings recursively, without regard to cost. It stops beyond the limit.
func (h *Handler) plain(dst []byte, g *session.Graph, rid string, path []string, wrap bool) (_ []byte, fits bool) {
	href := func(rid string) string { return `{"href":"` + h.Path(rid) + `"` }
	for _, p := range path {
		if p == rid {
			return append(dst, href(rid)+"}"...), true
		}
	}
	r, known := g.Resources[rid]
	if !known {
		r = fanout.Resource{Err: res.ErrInternal}
	}
	if wrap {
		kind := `,"error":`
		if r.Err == nil && r.Snapshot.IsModel() {
			kind = `,"model":`
		} else if r.Err == nil {
			kind = `,"collection":`
		}
		dst = append(dst, href(rid)+kind...)
	}
	if r.Err != nil {
		dst = r.Err.AppendJSON(dst)
	} else {
		begin, end := byte('['), byte(']')
		if r.Snapshot.IsModel() {
			begin, end = '{', '}'
		}
		dst = append(dst, begin)
		first := true
		for key, v := range r.Snapshot.All() {
			if !first {
				dst = append(dst, ',')
			}
			first = false
			if r.Snapshot.IsModel() {
				dst = append(res.AppendString(dst, key), ':')
			}
			switch v.Kind {
			case res.Reference:
				if dst, fits = h.plain(dst, g, v.RID, append(path[:len(path):len(path)], rid), !h.flat); !fits {
					return nil, false
				}
			case res.SoftReference:
				dst = append(dst, href(v.RID)+"}"...)
			default:
				dst = append(dst, v.Content()...)
			}
		}
		dst = append(dst, end)
	}
	if wrap {
		dst = append(dst, '}')
	}
	return dst, len(dst) <= h.o.MaxResponse
}
