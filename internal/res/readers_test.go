package res

import (
	"strings"
	"testing"

	"github.com/valyala/fastjson"
)

// BenchmarkReaders compares the two ways to read a message that check has accepted: the walk over
// its text, and the tree of fastjson. Both visit each member, unescape its key and take the raw
// text of its value, which is the least that events, requests and resources need.
func BenchmarkReaders(b *testing.B) {
	item := `{"rid":"library.book.12345"}`
	for _, c := range []struct{ name, text string }{
		{"request", callText},
		{"change", changeText},
		{"add", addText},
		{"model", `{"author":"Some author","id":12,"shelf":{"rid":"library.shelf.3"},"title":"Some title","year":1999}`},
		{"collection100", "[" + strings.Repeat(item+",", 99) + item + "]"},
		{"collection100000", "[" + strings.Repeat(item+",", 99_999) + item + "]"},
	} {
		text := []byte(c.text)
		var members int
		b.Run(c.name+"/walk", func(b *testing.B) {
			b.ReportAllocs()
			var buf []byte
			for b.Loop() {
				members, buf = 0, buf[:0]
				for w := (walk{text: text}); w.next(); members++ {
					buf = append(buf, w.value...)
				}
			}
		})
		b.Run(c.name+"/fastjson", func(b *testing.B) {
			b.ReportAllocs()
			var buf []byte
			var js fastjson.Parser
			var n int
			for b.Loop() {
				if len(text) > keepFed {
					js = fastjson.Parser{} // as Parser.done, which bounds what a parser keeps
				}
				v, err := js.ParseBytes(text)
				if err != nil {
					b.Fatal(err)
				}
				n, buf = 0, buf[:0]
				take := func(v *fastjson.Value) { buf, n = v.MarshalTo(buf), n+1 }
				if o := v.GetObject(); o != nil {
					o.Visit(func(_ []byte, v *fastjson.Value) { take(v) })
				}
				for _, v := range v.GetArray() {
					take(v)
				}
			}
			if n != members {
				b.Fatalf("%d members, and the walk found %d", n, members)
			}
		})
	}
}
