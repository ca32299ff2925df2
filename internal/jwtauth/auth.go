package jwtauth

import (
	"context"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"sluice/internal/loglimit"
	"sluice/internal/metrics"
	"sluice/internal/owner"
)

const (
	// maxWaiting bounds the tokens that wait for their verification, in bytes. Each counts as at
	// least minWaiting.
	maxWaiting = 64 << 20
	minWaiting = 1 << 10
	// logEvery is how often rejected tokens are logged.
	logEvery = 10 * time.Second
)

// Metrics counts what becomes of tokens, and fetches of keys. Any goroutine may read it.
type Metrics struct {
	Outcomes      [Outcomes]metrics.Counter
	Waiting       metrics.Gauge   // bytes of tokens that wait for their verification
	CacheHits     metrics.Counter // tokens that were verified before
	Fetches       metrics.Counter
	FetchFailures metrics.Counter
	Keys          metrics.Gauge // public keys in use
}

// Env is what an Auth needs of the gateway. All are required.
type Env struct {
	Clock   owner.Clock
	Wall    func() time.Time // tokens have dates: see owner.Clock.Wall
	Metrics *Metrics
	Faults  *owner.Faults
	Log     *slog.Logger
}

// Auth verifies the tokens of clients. Its methods may be called from any goroutine; On, Find and
// Verify do not block.
type Auth struct {
	env      Env
	first    Options // until Start
	current  atomic.Pointer[policy]
	rejected loglimit.Limiter

	queue   *owner.Mailbox[job]
	arrived chan struct{} // the queue is not empty
	jobs    chan job      // to the workers
	stop    chan struct{}
	all     sync.WaitGroup
}

// job is a token that waits for its verification.
type job struct {
	policy *policy
	token  string
	again  bool // it has waited for a fetch of the keys
	done   func(Grant, Outcome)
}

// New returns an Auth for valid settings, which may be off. It rejects all tokens before Start.
func New(o Options, env Env) *Auth {
	a := &Auth{env: env, first: o, arrived: make(chan struct{}, 1), jobs: make(chan job), stop: make(chan struct{})}
	a.queue = owner.NewMailbox[job](func() {
		select {
		case a.arrived <- struct{}{}:
		default:
		}
	})
	return a
}

// Start reads the secret, fetches the keys, and starts the workers. A file that cannot be read is
// an error; a server that does not respond is logged and tried again. Start and Stop have the form
// of lifecycle.Part.
func (a *Auth) Start(ctx context.Context, _ func(error)) error {
	if a.first.On() {
		var keys *source
		var err error
		if a.first.JWKS != "" {
			keys = newSource(&a.env, a.first.JWKS)
			if err = keys.load(ctx); err != nil && keys.client == nil {
				return err
			}
		}
		p, wrong := newPolicy(a.first, keys, a.env.Wall)
		if wrong != nil {
			return wrong
		}
		if keys != nil {
			keys.open(a.first.Refresh, err)
		}
		a.current.Store(p)
	}
	a.all.Go(a.dispatch)
	for range workers() {
		a.all.Go(a.work)
	}
	return nil
}

// workers returns how many tokens are verified at a time: event loops need processors, too.
func workers() int { return max(runtime.GOMAXPROCS(0)/2, 1) }

// Stop ends the workers and the fetches. Tokens that wait are not verified any more.
func (a *Auth) Stop(context.Context) error {
	close(a.stop)
	a.all.Wait()
	if p := a.current.Load(); p != nil && p.keys != nil {
		p.keys.close()
	}
	return nil
}

// Prepare makes what new, valid settings need, and returns what puts them into use. If the keys are
// at another location than before, they must be there. One caller at a time may change settings.
func (a *Auth) Prepare(ctx context.Context, o Options) (commit func(), err error) {
	old := a.current.Load()
	var before, keys *source
	if old != nil {
		before = old.keys
	}
	if o.JWKS != "" {
		if keys = before; keys == nil || keys.location != o.JWKS {
			keys = newSource(&a.env, o.JWKS)
			if err := keys.load(ctx); err != nil {
				return nil, err
			}
		}
	}
	var next *policy
	if o.On() {
		if next, err = newPolicy(o, keys, a.env.Wall); err != nil {
			return nil, err
		}
	}
	return func() {
		switch {
		case keys == nil:
			a.env.Metrics.Keys.Set(0)
		case keys == before:
			keys.setRefresh(o.Refresh)
			keys.fetch(true, nil) // a reload is also how an operator has them read again
		default:
			keys.open(o.Refresh, nil)
		}
		a.current.Store(next)
		if before != nil && before != keys {
			before.close()
		}
	}, nil
}

// On reports whether tokens are verified.
func (a *Auth) On() bool { return a.current.Load() != nil }

// Method returns the auth method by which a WebSocket client sends a token; empty if there is none.
func (a *Auth) Method() string {
	if p := a.current.Load(); p != nil {
		return p.o.Method
	}
	return ""
}

// Verify has the token of a client verified; it is empty if the client sends none. If that needs no
// verification, Verify returns the outcome. Otherwise a worker calls done, once, unless the Auth is
// stopped before.
func (a *Auth) Verify(token string, done func(Grant, Outcome)) (o Outcome, decided bool) {
	return a.submit(a.current.Load(), token, done)
}

// Renew is Verify for a client that sends a token in a request. The token must be valid, even if
// clients without one are admitted.
func (a *Auth) Renew(token string, done func(Grant, Outcome)) (o Outcome, decided bool) {
	p := a.current.Load()
	if p != nil && p.o.Anonymous != AnonymousNever {
		strict := *p
		strict.o.Anonymous = AnonymousNever
		p = &strict
	}
	return a.submit(p, token, done)
}

func (a *Auth) submit(p *policy, token string, done func(Grant, Outcome)) (o Outcome, decided bool) {
	switch {
	case p == nil:
		return Valid, true
	case token == "":
		return a.settle(p, Missing, ""), true
	case a.env.Metrics.Waiting.Load() >= maxWaiting:
		return a.settle(p, Busy, ""), true
	}
	a.env.Metrics.Waiting.Add(weight(token))
	a.queue.Put(job{policy: p, token: token, done: done})
	return Valid, false
}

func weight(token string) int64 { return int64(max(len(token), minWaiting)) }

// settle counts and logs an outcome, and returns what it means for the client.
func (a *Auth) settle(p *policy, o Outcome, key string) Outcome {
	a.env.Metrics.Outcomes[o].Inc()
	if o != Valid && o != Missing {
		attrs := []any{"reason", o.String()}
		if o == UnknownKey {
			attrs = append(attrs, "kid", key[:min(len(key), 64)])
		}
		a.rejected.Log(a.env.Log, slog.LevelInfo, a.env.Clock.Now(), logEvery, "token rejected", attrs...)
	}
	if o == Missing && p.o.Anonymous != AnonymousNever || o.fault() && p.o.Anonymous == AnonymousInvalid {
		return Valid
	}
	return o
}

// dispatch hands the queue to the workers.
func (a *Auth) dispatch() {
	for {
		select {
		case <-a.arrived:
		case <-a.stop:
			return
		}
		a.queue.Drain(0, func(j job) {
			select {
			case a.jobs <- j:
			case <-a.stop:
			}
		})
	}
}

// work verifies tokens.
func (a *Auth) work() {
	for {
		select {
		case j := <-a.jobs:
			a.verify(j)
		case <-a.stop:
			return
		}
	}
}

// verify verifies a token. If its key is unknown, a fetch of the keys may come first.
func (a *Auth) verify(j job) {
	g, o, key := a.contained(j)
	if o == UnknownKey && !j.again && j.policy.keys.fetch(false, func() {
		j.again = true
		a.queue.Put(j)
	}) {
		return
	}
	a.env.Metrics.Waiting.Add(-weight(j.token))
	j.done(g, a.settle(j.policy, o, key))
}

// contained is policy.check, with the outcome Failed after a panic.
func (a *Auth) contained(j job) (g Grant, o Outcome, key string) {
	o = Failed
	defer a.env.Faults.Contain(owner.Verifier)
	g, o, key, hit := j.policy.check(j.token, a.env.Wall)
	if hit {
		a.env.Metrics.CacheHits.Inc()
	}
	return g, o, key
}
