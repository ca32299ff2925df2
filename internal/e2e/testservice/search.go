package main

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/jirenius/go-res"
)

// Most items on a page of the search.
const maxPage = 50

// handleSearch adds two query resources over the items: pages of a sorted list, and a model that
// counts.
func (l *library) handleSearch(handle func(string, ...res.Option)) {
	open := res.Access(res.AccessGranted)
	handle("search", open, res.GetCollection(func(r res.CollectionRequest) {
		q, ok := parseQuery(r.ParseQuery())
		if !ok {
			r.InvalidQuery("limit and from are whole numbers, limit at most 50")
			return
		}
		r.QueryCollection(l.itemRefs(l.page(q)), q.normal())
	}))
	handle("total", open, res.GetModel(func(r res.ModelRequest) {
		term := strings.ToLower(r.ParseQuery().Get("q"))
		r.QueryModel(map[string]any{"total": len(l.matching(term))}, url.Values{"q": {term}}.Encode())
	}))
}

type query struct {
	term        string
	from, limit int
}

func parseQuery(v url.Values) (q query, ok bool) {
	number := func(name string, otherwise int) int {
		if !v.Has(name) {
			return otherwise
		}
		n, err := strconv.Atoi(v.Get(name))
		if err != nil || n < 0 {
			return -1
		}
		return n
	}
	q = query{term: strings.ToLower(v.Get("q")), from: number("from", 0), limit: number("limit", 10)}
	return q, q.from >= 0 && q.limit >= 0 && q.limit <= maxPage
}

// normal returns the normalised query: equivalent queries share an entry of the gateway's cache.
func (q query) normal() string {
	return url.Values{"q": {q.term}, "from": {strconv.Itoa(q.from)}, "limit": {strconv.Itoa(q.limit)}}.Encode()
}

func (l *library) matching(term string) []*item {
	var found []*item
	for _, it := range l.items {
		if strings.Contains(strings.ToLower(it.Name), term) {
			found = append(found, it)
		}
	}
	slices.SortStableFunc(found, func(a, b *item) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return a.ID - b.ID
	})
	return found
}

func (l *library) page(q query) []*item {
	found := l.matching(q.term)
	from := min(q.from, len(found))
	return found[from:min(from+q.limit, len(found))]
}

// searched sends query events, since search results may have changed. The gateway then sends a
// query request for each cached query. The reply for a page is the whole page, which the gateway
// compares; that for a total is the event.
func (l *library) searched() {
	l.with("lib.search").QueryEvent(func(r res.QueryRequest) {
		if r == nil {
			return // no more questions
		}
		if q, ok := parseQuery(r.ParseQuery()); ok {
			r.Collection(l.itemRefs(l.page(q)))
		} else {
			r.InvalidQuery("")
		}
	})
	l.with("lib.total").QueryEvent(func(r res.QueryRequest) {
		if r != nil {
			r.ChangeEvent(map[string]any{"total": len(l.matching(r.ParseQuery().Get("q")))})
		}
	})
}
