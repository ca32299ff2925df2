package demo

import (
	"math"
	"math/rand/v2"

	"github.com/jirenius/go-res"
)

// ticker is one share on the board. Prices are in cents, so that arithmetic is exact.
type ticker struct {
	symbol, name                 string
	base, price, open, high, low int // cents
}

// model returns the ticker as clients see it.
func (t *ticker) model() map[string]any {
	return map[string]any{
		"symbol": t.symbol, "name": t.name,
		"price": money(t.price), "open": money(t.open), "high": money(t.high), "low": money(t.low),
	}
}

func money(cents int) float64 { return float64(cents) / 100 }

// market is the ticker board. The group owns it.
type market struct {
	svc     *res.Service
	rand    *rand.Rand
	tickers []*ticker
}

func newMarket(svc *res.Service, seed uint64) *market {
	m := &market{svc: svc, rand: rand.New(rand.NewPCG(seed, 0))}
	list := func(symbol, name string, cents int) {
		m.tickers = append(m.tickers, &ticker{symbol: symbol, name: name,
			base: cents, price: cents, open: cents, high: cents, low: cents})
	}
	list("HEAD", "Headwater Foods", 4210)
	list("LOCK", "Lockkeeper Mutual", 11875)
	list("MILL", "Millrace Paper", 2364)
	list("OTTR", "Otter Logistics", 8790)
	list("PENS", "Penstock Energy", 31250)
	list("TAIL", "Tailwater Textiles", 1588)
	list("WEIR", "Weir & Sons", 6405)
	list("FORD", "Brook & Ford Books", 925)

	svc.Handle("tickers",
		res.Group(group),
		res.Access(func(r res.AccessRequest) { r.Access(true, "") }),
		res.GetCollection(func(r res.CollectionRequest) {
			refs := make([]res.Ref, len(m.tickers))
			for i, t := range m.tickers {
				refs[i] = res.Ref(tickerRID(t.symbol))
			}
			r.Collection(refs)
		}))
	svc.Handle("ticker.$symbol",
		res.Group(group),
		res.Access(func(r res.AccessRequest) { r.Access(true, "") }),
		res.GetModel(func(r res.ModelRequest) {
			for _, t := range m.tickers {
				if t.symbol == r.PathParam("symbol") {
					r.Model(t.model())
					return
				}
			}
			r.NotFound()
		}))
	return m
}

func tickerRID(symbol string) string { return serviceName + ".ticker." + symbol }

// move changes the price of some tickers and sends the changed properties only.
func (m *market) move() {
	for range 1 + m.rand.IntN(4) {
		t := m.tickers[m.rand.IntN(len(m.tickers))]
		// go-res sends no event for an empty change.
		resourceOf(m.svc, tickerRID(t.symbol)).ChangeEvent(t.trade(m.rand.NormFloat64()))
	}
}

// trade changes the price by a random step z, with a slight pull toward the base price, and returns
// the changed properties.
func (t *ticker) trade(z float64) map[string]any {
	pull := float64(t.base-t.price) * 0.01
	price := max(100, t.price+int(math.Round(float64(t.price)*0.0025*z+pull)))
	changed := map[string]any{}
	if price != t.price {
		t.price = price
		changed["price"] = money(price)
	}
	if price > t.high {
		t.high = price
		changed["high"] = money(price)
	}
	if price < t.low {
		t.low = price
		changed["low"] = money(price)
	}
	return changed
}
