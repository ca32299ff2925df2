//go:build linux

package soak

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// figures are a gateway's metrics by name, with labels as they are written.
type figures map[string]float64

// parseFigures reads the text format of Prometheus.
func parseFigures(text []byte) (figures, error) {
	f := figures{}
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		i := bytes.LastIndexByte(line, ' ')
		if i < 0 {
			return nil, fmt.Errorf("metrics: line %q has no value", line)
		}
		v, err := strconv.ParseFloat(string(line[i+1:]), 64)
		if err != nil {
			return nil, fmt.Errorf("metrics: line %q: %w", line, err)
		}
		f[string(line[:i])] = v
	}
	return f, nil
}

// sum adds the values of a name with all its labels.
func (f figures) sum(name string) float64 {
	v := f[name]
	for k, x := range f {
		if strings.HasPrefix(k, name+"{") {
			v += x
		}
	}
	return v
}

// codes returns the closes by code, of the counter with a label for each.
func (f figures) codes() map[string]float64 {
	all := map[string]float64{}
	for k, v := range f {
		if rest, ok := strings.CutPrefix(k, `sluice_ws_connections_closed_total{code="`); ok && v > 0 {
			all[strings.TrimSuffix(rest, `"}`)] = v
		}
	}
	return all
}

// sample is what was measured at one time. A figure that could not be read is -1.
type sample struct {
	at       float64 // seconds
	messages float64 // that all clients received per second
	gateways [gateways]gatewaySample
	clients  float64 // connected
}

// gatewaySample is a gateway's part of a sample.
type gatewaySample struct {
	rss, heap, goroutines, descriptors, connections, deliveries float64
	codes                                                       map[string]float64
}

// sampler measures every second, until it is stopped. Its fields belong to its goroutine until
// then.
type sampler struct {
	env     *env
	stop    chan struct{}
	done    chan struct{}
	samples []sample
}

func startSampler(e *env) *sampler {
	s := &sampler{env: e, stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(s.done)
		t := time.NewTicker(time.Second)
		defer t.Stop()
		last, lastMessages := time.Now(), int64(0)
		var lives [gateways]int64
		var delivered [gateways]float64
		for {
			select {
			case <-s.stop:
				return
			case <-t.C:
			}
			now := time.Now()
			p := sample{at: e.journal.seconds(now)}
			messages := e.journal.messages.Load()
			p.messages = float64(messages-lastMessages) / now.Sub(last).Seconds()
			p.clients = float64(e.connected.Load())
			for i, g := range e.gateways {
				p.gateways[i] = gatewaySample{-1, -1, -1, -1, -1, -1, nil}
				life := g.life.Load()
				f, err := g.figures()
				if err != nil {
					lives[i] = 0
					continue
				}
				q := &p.gateways[i]
				q.rss, q.heap = f["process_resident_memory_bytes"], f["go_memstats_heap_alloc_bytes"]
				q.goroutines, q.descriptors = f["go_goroutines"], f["process_open_fds"]
				q.connections, q.codes = f["sluice_connections"], f.codes()
				d := f["sluice_deliveries_total"]
				if lives[i] == life && d >= delivered[i] {
					q.deliveries = (d - delivered[i]) / now.Sub(last).Seconds()
				}
				lives[i], delivered[i] = life, d
				if n := f.sum("sluice_panics_total"); n > 0 {
					e.journal.fail("gateway %s recovered from %.0f panics: its log has them", gatewayNames[i], n)
				}
			}
			last, lastMessages = now, messages
			s.samples = append(s.samples, p)
		}
	}()
	return s
}

// end stops the sampler and returns the samples.
func (s *sampler) end() []sample {
	close(s.stop)
	<-s.done
	return s.samples
}
