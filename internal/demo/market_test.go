package demo

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"
)

type getModel struct {
	Result struct{ Model map[string]any }
}

// Applying the events to the fetched state yields the service's state.
func TestMarketEventsFoldToState(t *testing.T) {
	d, p := run(t, Options{Seed: 7})
	p.hear("event.demo.ticker.>")
	held := map[string]map[string]any{}
	for _, tk := range d.market.tickers {
		held[tk.symbol] = decode[getModel](t, p.ask("get.demo.ticker."+tk.symbol, `{}`)).Result.Model
	}
	for range 500 {
		d.post(d.market.move)
	}
	now := map[string]map[string]any{}
	for symbol := range held {
		now[symbol] = decode[getModel](t, p.ask("get.demo.ticker."+symbol, `{}`)).Result.Model
	}
	if err := p.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	events := len(p.news)
	if events < 500 {
		t.Errorf("%d events after 500 moves", events)
	}
	for range events {
		m := <-p.news
		symbol := strings.Split(m.Subject, ".")[3]
		values := decode[struct{ Values map[string]any }](t, string(m.Data)).Values
		if len(values) == 0 {
			t.Errorf("empty change of %s", symbol)
		}
		maps.Copy(held[symbol], values)
	}
	for symbol, m := range now {
		if !maps.Equal(held[symbol], m) {
			t.Errorf("%s: folded %v, service has %v", symbol, held[symbol], m)
		}
		price, low, high := m["price"].(float64), m["low"].(float64), m["high"].(float64)
		if low > price || price > high || low < 1 {
			t.Errorf("%s: price %v is not within %v and %v", symbol, price, low, high)
		}
	}
}

func TestMarketMovesByItselfAndAsSeeded(t *testing.T) {
	first := func() string {
		_, p := run(t, Options{Seed: 11, Step: 1e6})
		p.hear("event.demo.ticker.>")
		symbols := decode[struct {
			Result struct {
				Collection []struct{ RID string }
			}
		}](t, p.ask("get.demo.tickers", `{}`)).Result.Collection
		if len(symbols) != 8 {
			t.Fatalf("%d tickers", len(symbols))
		}
		return p.next()
	}
	if line := first(); !strings.Contains(line, `"price":`) {
		t.Errorf("first event: %s", line)
	}
	walk := func(seed uint64) string {
		d, err := New(Options{Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		tk, prices := d.market.tickers[0], []int{}
		for range 50 {
			tk.trade(d.market.rand.NormFloat64())
			prices = append(prices, tk.price)
		}
		raw, _ := json.Marshal(prices)
		return string(raw)
	}
	once, again, other := walk(3), walk(3), walk(4)
	if once != again {
		t.Error("the same seed gave two different walks")
	}
	if once == other {
		t.Error("two seeds gave the same walk")
	}
}
