// Command pages has live queries: pages of a sorted list that stay right while the list changes.
//
// Its service knows nothing of the gateway: the two talk through NATS.
package main

import (
	"embed"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/jirenius/go-res"

	"sluice/internal/example"
)

//go:embed index.html
var web embed.FS

// maxWords bounds the list.
const maxWords = 1000

// query is a page of the words that begin with a prefix.
type query struct {
	prefix      string
	from, limit int
}

func parse(v url.Values) (q query, ok bool) {
	from, err := strconv.Atoi(v.Get("from"))
	limit, err2 := strconv.Atoi(v.Get("limit"))
	q = query{strings.ToLower(v.Get("prefix")), from, limit}
	return q, err == nil && err2 == nil && from >= 0 && from <= maxWords && limit > 0 && limit <= 20 && len(q.prefix) <= 20
}

// String returns the normal form: equivalent queries share a resource in the gateway's cache.
func (q query) String() string {
	return url.Values{"prefix": {q.prefix}, "from": {strconv.Itoa(q.from)}, "limit": {strconv.Itoa(q.limit)}}.Encode()
}

func (q query) of(words []string) []string {
	var found []string
	for _, w := range words {
		if strings.HasPrefix(w, q.prefix) {
			found = append(found, w)
		}
	}
	from := min(q.from, len(found))
	return append([]string{}, found[from:min(from+q.limit, len(found))]...)
}

func service() *res.Service {
	words := strings.Fields("barge basin bridge canal eddy ferry ford gate harbour lock mill moor pond quay reach sluice tide tow weir wharf")
	s := res.NewService("pages")
	s.Handle("words", res.Access(res.AccessGranted),
		res.GetCollection(func(r res.CollectionRequest) {
			q, ok := parse(r.ParseQuery())
			if !ok {
				r.InvalidQuery("from and limit are numbers, limit at most 20")
				return
			}
			r.QueryCollection(q.of(words), q.String())
		}),
		res.Call("add", func(r res.CallRequest) {
			var word string
			r.ParseParams(&word)
			word = strings.ToLower(strings.TrimSpace(word))
			if word == "" || len(word) > 20 || len(words) == maxWords {
				r.InvalidParams("A word has 1 to 20 characters")
				return
			}
			if i, found := slices.BinarySearch(words, word); !found {
				words = slices.Insert(words, i, word)
				r.QueryEvent(func(asked res.QueryRequest) {
					if asked == nil {
						return // all queries have been answered
					}
					q, _ := parse(asked.ParseQuery())
					asked.Collection(q.of(words))
				})
			}
			r.OK(nil)
		}),
	)
	return s
}

func main() { os.Exit(example.Run(web, service())) }
