// Command todo is a list of things to do, with one service and two pages: one in React, one in Vue.
//
// Its service knows nothing of the gateway, nor of the pages: they talk through NATS.
package main

import (
	"embed"
	"os"
	"slices"
	"strings"

	"github.com/jirenius/go-res"

	"sluice/internal/example"
)

//go:embed *.html
var web embed.FS

// maxItems bounds the list.
const maxItems = 50

func service() *res.Service {
	items := []string{"Oil the gate", "Read the gauge"}
	s := res.NewService("todo")
	s.Handle("items", res.Access(res.AccessGranted),
		res.GetCollection(func(r res.CollectionRequest) { r.Collection(items) }),
		res.Call("add", func(r res.CallRequest) {
			var text string
			r.ParseParams(&text)
			if strings.TrimSpace(text) == "" || len(text) > 100 || len(items) == maxItems {
				r.InvalidParams("An item has 1 to 100 characters, and the list at most 50 items")
				return
			}
			items = append(items, text)
			r.AddEvent(text, len(items)-1)
			r.OK(nil)
		}),
		res.Call("done", func(r res.CallRequest) {
			var text string
			r.ParseParams(&text)
			if i := slices.Index(items, text); i >= 0 {
				items = slices.Delete(items, i, i+1)
				r.RemoveEvent(i)
			}
			r.OK(nil)
		}),
	)
	return s
}

func main() { os.Exit(example.Run(web, service())) }
