package demo

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/jirenius/go-res"
)

// Maximum lengths of title and author in characters.
const (
	maxTitle  = 100
	maxAuthor = 80
)

// codeListFull is an error code of the demo's own: a service may use any code outside "system.".
const codeListFull = serviceName + ".listFull"

type book struct {
	ID     int    `json:"id"`
	Title  string `json:"title"`
	Author string `json:"author"`
}

func (b *book) rid() string { return serviceName + ".book." + strconv.Itoa(b.ID) }

// shelf is the list of books. The group owns it.
type shelf struct {
	svc    *res.Service
	limit  int
	lastID int
	list   []*book
}

func newShelf(svc *res.Service, limit int) *shelf {
	s := &shelf{svc: svc, limit: limit}
	for _, b := range []book{
		{Title: "The Compleat Angler", Author: "Izaak Walton"},
		{Title: "Life on the Mississippi", Author: "Mark Twain"},
		{Title: "Three Men in a Boat", Author: "Jerome K. Jerome"},
		{Title: "The Mill on the Floss", Author: "George Eliot"},
		{Title: "The Wind in the Willows", Author: "Kenneth Grahame"},
	} {
		if len(s.list) < limit {
			s.put(b.Title, b.Author)
		}
	}
	svc.Handle("books",
		res.Group(group),
		res.Access(editAccess),
		res.GetCollection(s.getAll),
		res.Call("new", s.add),
		res.Call("remove", s.remove))
	svc.Handle("book.$id",
		res.Group(group),
		res.Access(editAccess),
		res.GetModel(s.get),
		res.Call("set", s.set))
	return s
}

// editAccess grants reading to everyone and calls to signed-in users. The gateway caches the reply
// until the token changes.
func editAccess(r res.AccessRequest) {
	if parseToken(r.RawToken()).Name != "" {
		r.Access(true, "*")
		return
	}
	r.Access(true, "")
}

func (s *shelf) put(title, author string) *book {
	s.lastID++
	b := &book{ID: s.lastID, Title: title, Author: author}
	s.list = append(s.list, b)
	return b
}

func (s *shelf) find(id int) int {
	return slices.IndexFunc(s.list, func(b *book) bool { return b.ID == id })
}

func (s *shelf) getAll(r res.CollectionRequest) {
	refs := make([]res.Ref, len(s.list))
	for i, b := range s.list {
		refs[i] = res.Ref(b.rid())
	}
	r.Collection(refs)
}

func (s *shelf) get(r res.ModelRequest) {
	if b := s.bookOf(r); b != nil {
		r.Model(b)
		return
	}
	r.NotFound()
}

// bookOf returns the book that the resource name refers to, nil if there is none. Only the
// canonical form of a number counts, so that a book has one name.
func (s *shelf) bookOf(r res.Resource) *book {
	id, err := strconv.Atoi(r.PathParam("id"))
	if err != nil || strconv.Itoa(id) != r.PathParam("id") {
		return nil
	}
	if i := s.find(id); i >= 0 {
		return s.list[i]
	}
	return nil
}

// add replies with the new book as a resource, to which the gateway then subscribes the client.
// State changes and their events precede the reply: a client has seen them when the reply arrives.
func (s *shelf) add(r res.CallRequest) {
	p := parseParams(r.RawParams(), "title", "author")
	title, author := p.text("title", maxTitle), p.text("author", maxAuthor)
	if len(s.list) >= s.limit {
		r.Error(&res.Error{Code: codeListFull,
			Message: fmt.Sprintf("The list is full (%d books): remove one first", s.limit)})
		return
	}
	b := s.put(title, author)
	r.AddEvent(res.Ref(b.rid()), len(s.list)-1)
	s.tell(r, "added", b.Title)
	r.Resource(b.rid())
}

// remove removes a book from the list. Removing a book twice is not an error, since clients race.
func (s *shelf) remove(r res.CallRequest) {
	id := parseParams(r.RawParams(), "id").id("id")
	if i := s.find(id); i >= 0 {
		b := s.list[i]
		s.list = slices.Delete(s.list, i, i+1)
		r.RemoveEvent(i)
		resourceOf(s.svc, b.rid()).DeleteEvent()
		s.tell(r, "removed", b.Title)
	}
	r.OK(nil)
}

// set updates the given properties of a book and sends the effective changes.
func (s *shelf) set(r res.CallRequest) {
	b := s.bookOf(r)
	if b == nil {
		r.NotFound()
		return
	}
	p := parseParams(r.RawParams(), "title", "author")
	next := *b
	if p.has("title") {
		next.Title = p.text("title", maxTitle)
	}
	if p.has("author") {
		next.Author = p.text("author", maxAuthor)
	}
	changed := map[string]any{}
	if next.Title != b.Title {
		changed["title"] = next.Title
	}
	if next.Author != b.Author {
		changed["author"] = next.Author
	}
	if len(changed) > 0 {
		*b = next
		r.ChangeEvent(changed)
		s.tell(r, "changed", b.Title)
	}
	r.OK(nil)
}

// tell sends a custom event: a notice to show once, which is not part of any resource's state.
func (s *shelf) tell(r res.CallRequest, did, title string) {
	resourceOf(s.svc, serviceName+".books").Event("activity", map[string]string{
		"who": parseToken(r.RawToken()).Name, "did": did, "title": title,
	})
}
