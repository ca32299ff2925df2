//go:build linux

package client

import (
	"maps"
	"slices"

	"sluice/loadtest/hist"
)

// Sample is what an Engine, or several, have counted.
type Sample struct {
	Count Counters               `json:"count"`
	Hists map[string]hist.Sparse `json:"hists,omitempty"` // by Kind; only what came since the last sample
}

// Add counts o as well.
func (s *Sample) Add(o Sample) {
	s.Count.Add(o.Count)
	for _, kind := range slices.Sorted(maps.Keys(o.Hists)) {
		if s.Hists == nil {
			s.Hists = map[string]hist.Sparse{}
		}
		if old, ok := s.Hists[kind]; ok {
			h := hist.From(old)
			h.Add(o.Hists[kind])
			s.Hists[kind] = h.Sparse()
		} else {
			s.Hists[kind] = o.Hists[kind]
		}
	}
}

// Clients is a set of clients, in this process (Engine) or in others (Remote,
// Group). Its methods must not be called concurrently.
type Clients interface {
	// Connect begins to connect all that are not connected; Sample tells how far it is.
	Connect() error
	// Begin begins a phase at a time of Now: counts start anew.
	Begin(at int64) error
	// Load begins to make requests.
	Load(l Load) error
	// Sample returns the counts since the phase began, and the latencies since
	// the last sample. Fewest and Most are filled in if perClient is set.
	Sample(perClient bool) (Sample, error)
	// Resume lets slow clients read like others.
	Resume() error
	// Drop ends all connections.
	Drop() error
	// Close ends everything.
	Close() error
}

// Engine is the clients of this process.
type Engine struct{ threads []*Thread }

var _ Clients = (*Engine)(nil)

// New makes an engine. It connects nothing yet.
func New(cfg Config) (*Engine, error) {
	to, err := cfg.check()
	if err != nil {
		return nil, err
	}
	cfg.Threads = min(max(cfg.Threads, 1), cfg.Count)
	if cfg.Inflight == 0 {
		cfg.Inflight = 128
	}
	cfg.Inflight = max(cfg.Inflight/cfg.Threads, 1)
	e := &Engine{}
	for i := range cfg.Threads {
		t, err := newThread(cfg, to, i)
		if err != nil {
			_ = e.Close()
			return nil, err
		}
		e.threads = append(e.threads, t)
		go t.run()
	}
	return e, nil
}

func (e *Engine) each(f func(t *Thread) error) error {
	for _, t := range e.threads {
		var err error
		if lost := t.do(func() { err = f(t) }); lost != nil {
			return lost
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Connect implements Clients.
func (e *Engine) Connect() error {
	return e.each(func(t *Thread) error { t.connect(); return nil })
}

// Begin implements Clients.
func (e *Engine) Begin(at int64) error {
	return e.each(func(t *Thread) error { t.begin(at); return nil })
}

// Load implements Clients.
func (e *Engine) Load(l Load) error {
	return e.each(func(t *Thread) error { return t.startLoad(l) })
}

// Sample implements Clients.
func (e *Engine) Sample(perClient bool) (Sample, error) {
	var all Sample
	err := e.each(func(t *Thread) error { all.Add(t.take(perClient)); return nil })
	return all, err
}

// Resume implements Clients.
func (e *Engine) Resume() error {
	return e.each(func(t *Thread) error { t.resume(); return nil })
}

// Drop implements Clients.
func (e *Engine) Drop() error {
	return e.each(func(t *Thread) error { t.dropAll(); return nil })
}

// Close implements Clients.
func (e *Engine) Close() error {
	for _, t := range e.threads {
		t.post(func() { t.stop = true })
		<-t.ended
	}
	return nil
}
