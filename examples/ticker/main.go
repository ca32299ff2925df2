// Command ticker shows prices that change many times a second, in a page without any library: the
// browser's EventSource is enough. Each event is encoded once for all clients, and a client that is
// slow gets the newest prices instead of a queue.
//
// Its service knows nothing of the gateway: the two talk through NATS.
package main

import (
	"embed"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/jirenius/go-res"

	"sluice/internal/example"
)

//go:embed index.html
var web embed.FS

// interval is the time between two changes of a price.
const interval = 50 * time.Millisecond

type stock struct {
	Symbol string  `json:"symbol"`
	Price  float64 `json:"price"`
}

func service() *res.Service {
	stocks := []*stock{{"FORD", 9.32}, {"HEAD", 42.1}, {"LOCK", 118.95}, {"PENS", 312.5}, {"WEIR", 63.8}}
	s := res.NewService("ticker")
	s.Handle("stocks", res.Group("ticker"), res.Access(res.AccessGranted), res.GetCollection(func(r res.CollectionRequest) {
		refs := make([]res.Ref, len(stocks))
		for i, st := range stocks {
			refs[i] = res.Ref("ticker.stock." + strings.ToLower(st.Symbol))
		}
		r.Collection(refs)
	}))
	s.Handle("stock.$symbol", res.Group("ticker"), res.Access(res.AccessGranted), res.GetModel(func(r res.ModelRequest) {
		for _, st := range stocks {
			if strings.ToLower(st.Symbol) == r.PathParam("symbol") {
				r.Model(st)
				return
			}
		}
		r.NotFound()
	}))
	go func() {
		for range time.Tick(interval) {
			st := stocks[rand.IntN(len(stocks))]
			// It runs in the group, as the handlers do. Before the service serves, it is an error.
			_ = s.With("ticker.stock."+strings.ToLower(st.Symbol), func(r res.Resource) {
				st.Price = math.Round(st.Price*(100+rand.NormFloat64()/5)) / 100
				r.ChangeEvent(map[string]any{"price": st.Price})
			})
		}
	}()
	return s
}

func main() { os.Exit(example.Run(web, service())) }
