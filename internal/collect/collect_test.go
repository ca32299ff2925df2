package collect

import (
	"fmt"
	"reflect"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"sluice/internal/metrics"
	"sluice/internal/owner"
)

// TestEveryCounterIsExported gives each counter of each part a value of its own and looks for it
// among the metrics.
func TestEveryCounterIsExported(t *testing.T) {
	from := *everything()
	r := metrics.New("1.0.0", "1.2.3")
	if err := Register(r, &from); err != nil {
		t.Fatal(err)
	}
	next := uint64(1) << 40 // above whatever the Go runtime and the process count
	want := map[float64]string{}
	var walk func(name string, v reflect.Value)
	walk = func(name string, v reflect.Value) {
		value := func() uint64 {
			next += 1 << 20
			want[float64(next)] = name
			return next
		}
		switch c := v.Addr().Interface().(type) {
		case *atomic.Int64:
			c.Store(int64(value()))
			return
		case *atomic.Uint64:
			c.Store(value())
			return
		case *metrics.Counter:
			c.Add(value())
			return
		case *metrics.Gauge:
			c.Set(int64(value()))
			return
		}
		switch v.Kind() {
		case reflect.Struct:
			for i := range v.NumField() {
				if f := v.Type().Field(i); f.IsExported() {
					walk(name+"."+f.Name, v.Field(i))
				}
			}
		case reflect.Array, reflect.Slice:
			for i := range v.Len() {
				walk(fmt.Sprintf("%s[%d]", name, i), v.Index(i))
			}
		default:
			t.Errorf("%s is no counter: %v", name, v.Type())
		}
	}
	for i, v := 0, reflect.ValueOf(from); i < v.NumField(); i++ {
		f := v.Field(i)
		switch f.Interface().(type) {
		case *owner.Faults, *Owners, *Status:
			continue // counted by what happens only, or functions
		}
		if f.Kind() != reflect.Pointer {
			continue
		}
		walk(v.Type().Field(i).Name, f.Elem())
	}
	walk("Status.Reloads", reflect.ValueOf(from.Status.Reloads).Elem())
	for name, c := range from.HTTP.Methods() {
		next += 1 << 20
		want[float64(next)] = "HTTP.Methods " + name
		c.Add(next)
	}
	families, err := r.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			delete(want, m.GetCounter().GetValue())
			delete(want, m.GetGauge().GetValue())
		}
	}
	for _, name := range want {
		t.Errorf("no metric has the value of %s", name)
	}
	if problems, err := testutil.GatherAndLint(r.Gatherer()); err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
}
