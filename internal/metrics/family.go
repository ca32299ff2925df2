package metrics

import "github.com/prometheus/client_golang/prometheus"

// family is a metric whose time series are not known beforehand.
type family struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func(emit func(value float64, labels ...string))
}

// Family exposes a counter or gauge with one time series for each call of emit, which gets the
// values of its labels in the order of labelNames. read is called at each scrape from any
// goroutine, must not block, and bounds the number of series. The other rules are those of Counter.
func (r *Registry) Family(name, help string, counter bool, labelNames []string, read func(emit func(value float64, labels ...string))) error {
	kind := prometheus.GaugeValue
	if counter {
		kind = prometheus.CounterValue
	}
	return r.register(name, &family{prometheus.NewDesc(name, help, labelNames, nil), kind, read})
}

// Describe implements prometheus.Collector.
func (f *family) Describe(to chan<- *prometheus.Desc) { to <- f.desc }

// Collect implements prometheus.Collector.
func (f *family) Collect(to chan<- prometheus.Metric) {
	f.read(func(value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(f.desc, f.kind, value, labels...)
	})
}
