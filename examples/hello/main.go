// Command hello is the smallest example: a counter that all windows see.
//
// Its service knows nothing of the gateway: the two talk through NATS.
package main

import (
	"embed"
	"os"

	"github.com/jirenius/go-res"

	"sluice/internal/example"
)

//go:embed index.html
var web embed.FS

func service() *res.Service {
	count := 0
	s := res.NewService("hello")
	s.Handle("counter",
		res.Access(res.AccessGranted),
		res.GetModel(func(r res.ModelRequest) { r.Model(map[string]int{"count": count}) }),
		res.Call("increment", func(r res.CallRequest) {
			count++
			r.ChangeEvent(map[string]any{"count": count})
			r.OK(nil)
		}),
	)
	return s
}

func main() { os.Exit(example.Run(web, service())) }
