//go:build linux

package client

import (
	"maps"
	"slices"

	"sluice/loadtest/hist"
)

// Sample holds the counters and latencies of one Engine or several.
type Sample struct {
	Count Counters               `json:"count"`
	Hists map[string]hist.Sparse `json:"hists,omitempty"` // by Kind; latencies since the last sample
}

// Add adds o to s.
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

// Clients is a set of clients, in this process (Engine) or in others (Remote, Group). Its
// methods must not be called concurrently.
type Clients interface {
	// Connect starts to connect all clients, and does not wait. Sample shows the progress.
	Connect() error
	// Begin begins a phase at a time of Now: counters start at zero.
	Begin(at int64) error
	// Load starts a series of requests.
	Load(l Load) error
	// Sample returns the counters since the phase began, and the latencies since the last
	// sample. It computes Fewest, Most and Oldest only if perClient is
	// set.
	Sample(perClient bool) (Sample, error)
	// Resume lets slow clients read their backlog, and from then on like others.
	Resume() error
	// Drop closes all connections.
	Drop() error
	// Move is Drop, and has Connect connect to another server of the same kind from then on.
	// addr is its ip:port.
	Move(addr string) error
	// Close closes all connections and stops the threads or processes.
	Close() error
}

// Engine is a set of clients in this process.
type Engine struct{ threads []*Thread }

var _ Clients = (*Engine)(nil)

// New starts an engine's threads. It connects no client yet.
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

// each runs f on each thread in turn, until one fails.
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

// Move implements Clients.
func (e *Engine) Move(addr string) error {
	to, err := Config{Addr: addr, Count: 1}.check()
	if err != nil {
		return err
	}
	return e.each(func(t *Thread) error { t.move(to, addr); return nil })
}

// Close implements Clients.
func (e *Engine) Close() error {
	for _, t := range e.threads {
		t.post(func() { t.stop = true })
		<-t.ended
	}
	return nil
}
