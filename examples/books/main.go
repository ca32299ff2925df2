// Command books is a list that several people edit together: a collection of references to models.
//
// Its service knows nothing of the gateway: the two talk through NATS.
package main

import (
	"embed"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/jirenius/go-res"

	"sluice/internal/example"
)

//go:embed index.html
var web embed.FS

// maxBooks bounds the list: whatever clients can make longer needs a limit.
const maxBooks = 100

type book struct {
	ID     int    `json:"id"`
	Title  string `json:"title"`
	Author string `json:"author"`
}

func (b *book) rid() string { return "books.book." + strconv.Itoa(b.ID) }

// shelf is what the service owns. All handlers are in one group, so go-res runs them one at a time.
type shelf struct {
	list []*book
	last int
}

func (s *shelf) put(title, author string) *book {
	s.last++
	b := &book{ID: s.last, Title: title, Author: author}
	s.list = append(s.list, b)
	return b
}

// index returns the place of a book in the list, or -1.
func (s *shelf) index(id string) int {
	return slices.IndexFunc(s.list, func(b *book) bool { return strconv.Itoa(b.ID) == id })
}

func service() *res.Service {
	shelf := &shelf{}
	shelf.put("Emma", "Jane Austen")
	shelf.put("Walden", "Henry David Thoreau")

	s := res.NewService("books")
	s.Handle("list", res.Group("books"), res.Access(res.AccessGranted),
		res.GetCollection(func(r res.CollectionRequest) {
			refs := make([]res.Ref, len(shelf.list))
			for i, b := range shelf.list {
				refs[i] = res.Ref(b.rid())
			}
			r.Collection(refs)
		}),
		res.Call("add", func(r res.CallRequest) {
			var p struct{ Title, Author string }
			r.ParseParams(&p)
			if !valid(p.Title) || !valid(p.Author) {
				r.InvalidParams("A book needs a title and an author of at most 100 characters")
				return
			}
			if len(shelf.list) == maxBooks {
				r.Error(&res.Error{Code: "books.full", Message: "The shelf is full"})
				return
			}
			b := shelf.put(p.Title, p.Author)
			r.AddEvent(res.Ref(b.rid()), len(shelf.list)-1)
			r.Resource(b.rid())
		}),
		res.Call("remove", func(r res.CallRequest) {
			var p struct{ ID int }
			r.ParseParams(&p)
			if i := shelf.index(strconv.Itoa(p.ID)); i >= 0 {
				shelf.list = slices.Delete(shelf.list, i, i+1)
				r.RemoveEvent(i)
			}
			r.OK(nil)
		}),
	)
	s.Handle("book.$id", res.Group("books"), res.Access(res.AccessGranted),
		res.GetModel(func(r res.ModelRequest) {
			if i := shelf.index(r.PathParam("id")); i >= 0 {
				r.Model(shelf.list[i])
				return
			}
			r.NotFound()
		}),
		res.Call("set", func(r res.CallRequest) {
			i := shelf.index(r.PathParam("id"))
			if i < 0 {
				r.NotFound()
				return
			}
			var p struct{ Title string }
			r.ParseParams(&p)
			if !valid(p.Title) {
				r.InvalidParams("A title has 1 to 100 characters")
				return
			}
			shelf.list[i].Title = p.Title
			r.ChangeEvent(map[string]any{"title": p.Title})
			r.OK(nil)
		}),
	)
	return s
}

func valid(text string) bool { return strings.TrimSpace(text) != "" && len(text) <= 100 }

func main() { os.Exit(example.Run(web, service())) }
