package metrics

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
)

// A histogram's buckets are those of Prometheus's native histograms of schema 3: each bound is
// 2^(1/8) times the one before, about 9% more. Scrapers that ask for protobuf get these; those that
// ask for text get a bucket for each power of two.
const (
	schema      = 3
	perOctave   = 1 << schema
	octaves     = 27
	buckets     = octaves*perOctave + 1 // the first is for what is not above the lowest bound
	lowestTime  = -20                   // the lowest bound of Durations is 2^-20 s, about 1 µs; the highest 2^7 s
	lowestCount = 0                     // the lowest bound of Sizes is 1; the highest 2^27
)

// bounds are the bounds within an octave, without 1.
var bounds = func() (b [perOctave - 1]float64) {
	for i := range b {
		b[i] = math.Exp2(float64(i+1) / perOctave)
	}
	return b
}()

// Durations is a histogram of durations. The zero value is ready. Its owner adds to it with atomics
// and without allocation; any goroutine may read it. An owner that shares it with others makes them
// wait for each other's cache line: have one for each owner. It must not be copied after first use.
type Durations struct{ histogram }

// Observe adds n observations of d; a negative one counts as 0.
func (h *Durations) Observe(d time.Duration, n uint64) {
	d = max(d, 0)
	h.add(bucketOf(float64(d)*1e-9, lowestTime), uint64(d)*n, n)
}

// Sizes is a histogram of numbers from 1 on, of which the same holds as of Durations.
type Sizes struct{ histogram }

// Observe adds an observation of size.
func (h *Sizes) Observe(size int) {
	size = max(size, 0)
	h.add(bucketOf(float64(size), lowestCount), uint64(size), 1)
}

type histogram struct {
	sum    atomic.Uint64 // of the observations: nanoseconds, or numbers
	counts [buckets]atomic.Uint64
}

func (h *histogram) add(bucket int, sum, n uint64) {
	h.counts[bucket].Add(n)
	h.sum.Add(sum)
}

// bucketOf returns the index of the bucket for v: the first whose bound is not below v, or the
// last.
func bucketOf(v float64, lowest int) int {
	bits := math.Float64bits(v)
	octave := int(bits>>52) - 1023 - lowest // v is in [2^octave, 2^(octave+1)), in units of the lowest bound
	if octave < 0 {
		return 0
	}
	fraction := math.Float64frombits(bits&(1<<52-1) | 1023<<52) // in [1, 2)
	i := octave * perOctave
	if fraction > 1 {
		i++
		for _, b := range bounds {
			if fraction <= b {
				break
			}
			i++
		}
	}
	return min(i, buckets-1)
}

// Histogram is the sum of several owners' histograms, for an exporter. The zero value is empty.
type Histogram struct {
	counts [buckets]uint64
	total  uint64
	sum    float64 // in seconds, or numbers
	lowest int     // exponent of the lowest bound
}

// AddDurations adds what an owner has counted.
func (s *Histogram) AddDurations(h *Durations) {
	s.lowest = lowestTime
	s.merge(&h.histogram, 1e-9)
}

// AddSizes adds what an owner has counted.
func (s *Histogram) AddSizes(h *Sizes) {
	s.lowest = lowestCount
	s.merge(&h.histogram, 1)
}

func (s *Histogram) merge(h *histogram, unit float64) {
	for i := range h.counts {
		n := h.counts[i].Load()
		s.counts[i] += n
		s.total += n
	}
	s.sum += float64(h.sum.Load()) * unit
}

// Count returns the number of observations.
func (s *Histogram) Count() uint64 { return s.total }

// Sum returns the sum of the observations, in seconds if they are durations.
func (s *Histogram) Sum() float64 { return s.sum }

// histograms is a metric whose time series are histograms.
type histograms struct {
	desc *prometheus.Desc
	read func(emit func(h *Histogram, labels ...string))
}

// Histograms exposes a histogram with one time series for each call of emit, which gets the values
// of its labels in the order of labelNames. The other rules are those of Family.
func (r *Registry) Histograms(name, help string, labelNames []string, read func(emit func(h *Histogram, labels ...string))) error {
	return r.register(name, &histograms{prometheus.NewDesc(name, help, labelNames, nil), read})
}

// Describe implements prometheus.Collector.
func (c *histograms) Describe(to chan<- *prometheus.Desc) { to <- c.desc }

// Collect implements prometheus.Collector.
func (c *histograms) Collect(to chan<- prometheus.Metric) {
	c.read(func(h *Histogram, labels ...string) {
		to <- &sample{c.desc, prometheus.MakeLabelPairs(c.desc, labels), h}
	})
}

// sample is a histogram at the time of a scrape.
type sample struct {
	desc   *prometheus.Desc
	labels []*dto.LabelPair
	*Histogram
}

// Desc implements prometheus.Metric.
func (s *sample) Desc() *prometheus.Desc { return s.desc }

// Write implements prometheus.Metric: it writes both forms of the buckets.
func (s *sample) Write(to *dto.Metric) error {
	h := &dto.Histogram{
		SampleCount: proto.Uint64(s.total), SampleSum: proto.Float64(s.sum),
		Schema: proto.Int32(schema), ZeroThreshold: proto.Float64(0), ZeroCount: proto.Uint64(0),
	}
	// A span without buckets says that the histogram is native, if it is empty.
	h.PositiveSpan = []*dto.BucketSpan{{Offset: proto.Int32(0), Length: proto.Uint32(0)}}
	var cumulative, before uint64
	gap := int32(s.lowest * perOctave)
	for i, n := range s.counts {
		cumulative += n
		if i%perOctave == 0 && i < buckets-1 {
			h.Bucket = append(h.Bucket, &dto.Bucket{CumulativeCount: proto.Uint64(cumulative), UpperBound: proto.Float64(math.Exp2(float64(s.lowest + i/perOctave)))})
		}
		last := h.PositiveSpan[len(h.PositiveSpan)-1]
		switch {
		case n == 0:
			gap++
			continue
		case gap == 0:
			last.Length = proto.Uint32(last.GetLength() + 1)
		case last.GetLength() == 0:
			last.Offset, last.Length = proto.Int32(gap), proto.Uint32(1)
		default:
			h.PositiveSpan = append(h.PositiveSpan, &dto.BucketSpan{Offset: proto.Int32(gap), Length: proto.Uint32(1)})
		}
		gap = 0
		h.PositiveDelta = append(h.PositiveDelta, int64(n)-int64(before))
		before = n
	}
	to.Label, to.Histogram = s.labels, h
	return nil
}
