package httpapi

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"sluice/internal/res"
	"sluice/internal/session"
)

// nowhere is a response writer that discards everything.
type nowhere struct {
	header http.Header
	bytes  int
}

func (n *nowhere) Header() http.Header { return n.header }
func (n *nowhere) WriteHeader(int)     {}
func (n *nowhere) Write(p []byte) (int, error) {
	n.bytes += len(p)
	return len(p), nil
}

// benchGraphs are typical responses: one model; a list of models; a resource whose JSON differs
// from that of WebSocket clients.
func benchGraphs(t testing.TB) map[string]*session.Graph {
	list := resources{}
	var refs []string
	for i := range 100 {
		rid := fmt.Sprint("library.book.", i)
		refs = append(refs, fmt.Sprintf(`{"rid":"%s"}`, rid))
		list[rid] = fmt.Sprintf(`{"author":{"rid":"library.author.%d"},"id":%d,"title":"A book with a title of usual length"}`, i%10, i)
	}
	for i := range 10 {
		list[fmt.Sprint("library.author.", i)] = fmt.Sprintf(`{"born":%d,"name":"Somebody Who Writes"}`, 1900+i)
	}
	list["library.books"] = "[" + strings.Join(refs, ",") + "]"
	return map[string]*session.Graph{
		"Model": world.graph(t, "m"),
		"Soft":  world.graph(t, "m.soft"),
		"List":  list.graph(t, "library.books"),
	}
}

func BenchmarkEncode(b *testing.B) {
	for name, g := range benchGraphs(b) {
		for _, encoding := range []string{"json", "jsonflat"} {
			b.Run(name+"/"+encoding, func(b *testing.B) {
				h := New(Options{Encoding: encoding}, nil)
				var dst []byte
				b.ReportAllocs()
				for b.Loop() {
					var err *res.Error
					if dst, err = h.AppendGraph(dst[:0], g); err != nil {
						b.Fatal(err)
					}
				}
				b.SetBytes(int64(len(dst)))
			})
		}
	}
}

// A whole GET, without what net/http does around it.
func BenchmarkGet(b *testing.B) {
	for name, g := range benchGraphs(b) {
		for _, coding := range []string{"", "gzip", "br"} {
			if coding != "" && name != "List" {
				continue
			}
			b.Run(strings.TrimSuffix(name+"/"+coding, "/"), func(b *testing.B) {
				h := New(Options{}, &fakeBackend{graph: g})
				r := httptest.NewRequest("GET", "/api/test/model", nil)
				if coding != "" {
					r.Header.Set("Accept-Encoding", coding)
				}
				w := &nowhere{header: http.Header{}}
				b.ReportAllocs()
				for b.Loop() {
					clear(w.header)
					h.ServeHTTP(w, r)
				}
				b.ReportMetric(float64(w.bytes)/float64(b.N), "bytes/response")
			})
		}
	}
}

func BenchmarkRID(b *testing.B) {
	h := New(Options{}, nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := h.RID("/api/library/book/42", "from=0"); !ok {
			b.Fatal("no resource")
		}
	}
}
