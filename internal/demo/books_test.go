package demo

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestBookAccess(t *testing.T) {
	_, p := run(t, Options{})
	const readOnly, all = `{"result":{"get":true}}`, `{"result":{"get":true,"call":"*"}}`
	for _, name := range []string{"access.demo.books", "access.demo.book.1"} {
		p.want(name, `{"cid":"c"}`, readOnly)
		p.want(name, `{"cid":"c","token":null}`, readOnly)
		p.want(name, `{"cid":"c","token":{"name":""}}`, readOnly)
		p.want(name, `{"cid":"c","token":"of another service"}`, readOnly)
		p.want(name, `{"cid":"c","token":{"name":"Ada"}}`, all)
	}
}

// Events arrive in the order of their changes, before the reply to the call that caused them.
func TestBookEdits(t *testing.T) {
	_, p := run(t, Options{})
	p.hear("event.demo.>")
	call := func(params string) string {
		return fmt.Sprintf(`{"cid":"c","token":{"name":"Ada"},"params":%s}`, params)
	}
	p.want("call.demo.books.new", call(`{"title":"  Dune ","author":"Frank Herbert"}`), `{"resource":{"rid":"demo.book.6"}}`)
	p.expect(`event.demo.books.add {"value":{"rid":"demo.book.6"},"idx":5}`,
		`event.demo.books.activity {"did":"added","title":"Dune","who":"Ada"}`)
	p.want("get.demo.book.6", `{}`, `{"result":{"model":{"id":6,"title":"Dune","author":"Frank Herbert"}}}`)

	p.want("call.demo.book.6.set", call(`{"author":"F. Herbert"}`), `{"result":null}`)
	p.expect(`event.demo.book.6.change {"values":{"author":"F. Herbert"}}`,
		`event.demo.books.activity {"did":"changed","title":"Dune","who":"Ada"}`)
	p.want("call.demo.book.6.set", call(`{"author":"F. Herbert","title":"Dune"}`), `{"result":null}`) // no effective change: no event
	p.want("call.demo.book.6.set", call(`{}`), `{"result":null}`)

	p.want("call.demo.books.remove", call(`{"id":2}`), `{"result":null}`)
	p.expect(`event.demo.books.remove {"idx":1}`, `event.demo.book.2.delete`,
		`event.demo.books.activity {"did":"removed","title":"Life on the Mississippi","who":"Ada"}`)
	p.want("call.demo.books.remove", call(`{"id":2}`), `{"result":null}`) // already removed: no event
	p.want("get.demo.book.2", `{}`, failure("system.notFound", "Not found"))
	p.want("call.demo.book.2.set", call(`{"title":"x"}`), failure("system.notFound", "Not found"))
	p.want("get.demo.books", `{}`, `{"result":{"collection":[{"rid":"demo.book.1"},{"rid":"demo.book.3"},`+
		`{"rid":"demo.book.4"},{"rid":"demo.book.5"},{"rid":"demo.book.6"}]}}`)

	// IDs are not reused, or a client could confuse a new book with the old one.
	p.want("call.demo.books.remove", call(`{"id":6}`), `{"result":null}`)
	p.want("call.demo.books.new", call(`{"title":"Emma","author":"Jane Austen"}`), `{"resource":{"rid":"demo.book.7"}}`)
}

func TestBookParams(t *testing.T) {
	_, p := run(t, Options{})
	p.hear("event.demo.>")
	text := func(n int) string { return strings.Repeat("ä", n) }
	quoted := func(s string) string { raw, _ := json.Marshal(s); return string(raw) }
	for _, c := range []struct{ method, params, message string }{
		{"books.new", `"Dune"`, "params must be an object"},
		{"books.new", `["Dune"]`, "params must be an object"},
		{"books.new", `{"title":"Dune","author":"x","id":4}`, "params: only title, author"},
		{"books.new", `null`, "title is missing"},
		{"books.new", `{"title":"Dune"}`, "author is missing"},
		{"books.new", `{"title":7,"author":"x"}`, "title must be a string"},
		{"books.new", `{"title":null,"author":"x"}`, "title must be a string"},
		{"books.new", `{"title":{"a":1},"author":"x"}`, "title must be a string"},
		{"books.new", `{"title":" \t ","author":"x"}`, "title must not be empty"},
		{"books.new", `{"title":"a\nb","author":"x"}`, "title must be one line of plain text"},
		{"books.new", `{"title":"a\u202eb","author":"x"}`, "title must be one line of plain text"},
		{"books.new", `{"title":"a\u0000b","author":"x"}`, "title must be one line of plain text"},
		{"books.new", `{"title":"` + text(101) + `","author":"x"}`, "title must not be longer than 100 characters"},
		{"books.new", `{"title":"x","author":"` + text(81) + `"}`, "author must not be longer than 80 characters"},
		{"book.1.set", `{"title":""}`, "title must not be empty"},
		{"book.1.set", `{"title":"good","author":false}`, "author must be a string"}, // no partial change
		{"book.1.set", `{"id":9}`, "params: only title, author"},
		{"books.remove", `{}`, "id is missing"},
		{"books.remove", `{"id":"1"}`, "id must be a whole number above 0"},
		{"books.remove", `{"id":1.5}`, "id must be a whole number above 0"},
		{"books.remove", `{"id":-1}`, "id must be a whole number above 0"},
		{"books.remove", `{"id":1e99}`, "id must be a whole number above 0"},
		{"books.remove", `{"id":null}`, "id must be a whole number above 0"},
	} {
		p.want("call.demo."+c.method, `{"cid":"c","params":`+c.params+`}`, failure("system.invalidParams", c.message))
	}
	p.want("call.demo.books.burn", `{"cid":"c"}`, failure("system.methodNotFound", "Method not found"))
	for _, name := range []string{"book.99", "book.01", "book.+1", "book.x", "shelf", "ticker.NOPE"} {
		p.want("get.demo."+name, `{}`, failure("system.notFound", "Not found"))
	}
	p.want("get.demo.book.1", `{}`, `{"result":{"model":{"id":1,"title":"The Compleat Angler","author":"Izaak Walton"}}}`)

	// Values at the limits are accepted, and cause the first event: the invalid calls caused none.
	p.want("call.demo.book.1.set", `{"cid":"c","params":{"title":`+quoted(text(100))+`,"author":`+quoted(text(80))+`}}`, `{"result":null}`)
	p.expect(`event.demo.book.1.change {"values":{"author":` + quoted(text(80)) + `,"title":` + quoted(text(100)) + `}}`)
}

func TestBookListIsBounded(t *testing.T) {
	_, p := run(t, Options{Books: 6})
	const add = `{"cid":"c","params":{"title":"One","author":"More"}}`
	p.want("call.demo.books.new", add, `{"resource":{"rid":"demo.book.6"}}`)
	p.want("call.demo.books.new", add, failure("demo.listFull", "The list is full (6 books): remove one first"))
	p.want("call.demo.books.remove", `{"cid":"c","params":{"id":1}}`, `{"result":null}`)
	p.want("call.demo.books.new", add, `{"resource":{"rid":"demo.book.7"}}`)
}
