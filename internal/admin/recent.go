package admin

import (
	"context"
	"net/http"
	"sync"
	"time"

	"sluice/internal/owner"
)

// answers keeps what owners have just been asked, so that many open pages ask them no more often
// than one. Any goroutine may use it.
type answers struct {
	mu  sync.Mutex
	all map[string]*kept
}

// kept is an answer, or the wait for it.
type kept struct {
	at    time.Duration
	ready chan struct{} // closed when value and err are set
	value any
	err   error
}

const (
	keepFor = time.Second
	maxKept = 64
)

// get returns the answer of the last second to the question that key names, or f's.
func (a *answers) get(ctx context.Context, clock owner.Clock, key string, f func() (any, error)) (any, error) {
	now := clock.Now()
	a.mu.Lock()
	k := a.all[key]
	if k == nil || now-k.at >= keepFor {
		if len(a.all) >= maxKept || a.all == nil {
			a.all = make(map[string]*kept)
		}
		k = &kept{at: now, ready: make(chan struct{})}
		a.all[key] = k
		a.mu.Unlock()
		k.value, k.err = f()
		close(k.ready)
		if k.err != nil {
			a.forget(key, k)
		}
		return k.value, k.err
	}
	a.mu.Unlock()
	select {
	case <-k.ready:
		return k.value, k.err
	case <-ctx.Done():
		return nil, refuse(http.StatusServiceUnavailable, "another request waits for the same answer for too long")
	}
}

// forget removes an error, which is not kept.
func (a *answers) forget(key string, k *kept) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.all[key] == k {
		delete(a.all, key)
	}
}
