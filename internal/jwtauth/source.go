package jwtauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sluice/internal/owner"
	"sluice/internal/secret"
)

const (
	// maxJWKS bounds a JWKS, in bytes.
	maxJWKS = 1 << 20
	// fetchTime bounds a fetch.
	fetchTime = 10 * time.Second
	// fetchPause is the least interval between fetches for unknown key IDs: clients can make up as
	// many as they like.
	fetchPause = 10 * time.Second
	// retryFirst and retryMost bound the back-off after failed fetches.
	retryFirst = time.Second
	retryMost  = time.Minute
	// maxRedirects bounds the redirects of a fetch, all on the configured host.
	maxRedirects = 3
)

// source fetches the keys of a JWKS: at the start, periodically, and when a token has an unknown
// key ID. Keys stay in use until a later fetch has succeeded. Its methods may be called from any
// goroutine, but not from an event loop.
type source struct {
	// Fixed after construction.
	env      *Env
	location string
	client   *http.Client // nil: a file

	current atomic.Pointer[keySet] // nil: no fetch has succeeded
	refresh atomic.Int64           // interval of fetches

	all sync.WaitGroup // fetches

	mu       sync.Mutex // guards the rest; it is not held during a fetch
	cancel   func()     // of the fetch in flight; nil: none
	waiting  []func()   // to be called when that has ended
	latest   time.Duration
	fetched  bool // latest is the beginning of a fetch
	failures int  // fetches that have failed since one succeeded
	alarm    owner.Alarm
	closed   bool
}

// isURL reports whether a location is not a file.
func isURL(location string) bool {
	return strings.HasPrefix(location, "https://") || strings.HasPrefix(location, "http://")
}

// newSource returns the source of a JWKS at a URL or in a file. It fetches nothing before load or
// open.
func newSource(env *Env, location string) *source {
	s := &source{env: env, location: location}
	if isURL(location) {
		s.client = &http.Client{CheckRedirect: sameHost, Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			ForceAttemptHTTP2:      true,
			DisableKeepAlives:      true, // the next fetch is minutes away
			MaxResponseHeaderBytes: 64 << 10,
		}}
	}
	return s
}

var errRedirect = errors.New("it redirects to another host: configure the URL where the keys are")

// sameHost permits redirects on the host of the first request only.
func sameHost(r *http.Request, via []*http.Request) error {
	if first := via[0].URL; r.URL.Scheme != first.Scheme || r.URL.Host != first.Host {
		return errRedirect
	}
	if len(via) > maxRedirects {
		return fmt.Errorf("it redirects more than %d times", maxRedirects)
	}
	return nil
}

// load fetches the keys and uses them. The error has no credential of the location.
func (s *source) load(ctx context.Context) error {
	s.env.Metrics.Fetches.Inc()
	text, err := s.read(ctx)
	if err == nil {
		var set *keySet
		if set, err = parseKeys(text); err == nil {
			s.current.Store(set)
			return nil
		}
	}
	s.env.Metrics.FetchFailures.Inc()
	return fmt.Errorf("JWKS %s: %w", s.name(), err)
}

// name is the location as the log shows it.
func (s *source) name() string {
	name, _, _ := strings.Cut(s.location, "?")
	return secret.Text(name)
}

func (s *source) read(ctx context.Context) ([]byte, error) {
	if s.client == nil {
		return readFile(s.location, maxJWKS)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	alarm := s.env.Clock.AfterFunc(fetchTime, func() { cancel(fmt.Errorf("no response within %v", fetchTime)) })
	defer alarm.Stop()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.location, nil)
	if err != nil {
		return nil, errors.New("not a URL")
	}
	r.Header.Set("Accept", "application/jwk-set+json, application/json")
	text, err := s.get(r)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return nil, cause
	}
	return text, err
}

func (s *source) get(r *http.Request) ([]byte, error) {
	resp, err := s.client.Do(r)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the URL
		}
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", resp.StatusCode)
	}
	return readAll(resp.Body, maxJWKS)
}

// readAll reads at most so many bytes to the end.
func readAll(r io.Reader, most int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, most+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(text)) > most:
		return nil, fmt.Errorf("longer than %d bytes", most)
	}
	return text, nil
}

// open begins the periodic fetches. tried reports whether load has been called, and err what it
// returned.
func (s *source) open(refresh time.Duration, err error) {
	s.refresh.Store(int64(refresh))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latest, s.fetched = s.env.Clock.Now(), true
	s.note(err)
	s.alarm = s.env.Clock.AfterFunc(s.pause(), func() { s.fetch(true, nil) })
}

// setRefresh changes the interval of fetches from the next one on.
func (s *source) setRefresh(refresh time.Duration) { s.refresh.Store(int64(refresh)) }

// close ends the fetches. What waits for one is called.
func (s *source) close() {
	s.mu.Lock()
	s.closed = true
	if s.alarm != nil {
		s.alarm.Stop()
	}
	if s.cancel != nil {
		s.cancel()
	}
	s.mu.Unlock()
	s.all.Wait()
}

// fetch begins a fetch unless one is in flight. done, if not nil, is called when it has ended. due
// says that the time has come; otherwise nothing happens within fetchPause of the latest, and fetch
// returns false.
func (s *source) fetch(due bool, done func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.env.Clock.Now()
	switch {
	case s.closed:
		return false
	case s.cancel == nil && !due && s.fetched && now-s.latest < fetchPause:
		return false
	}
	if done != nil {
		s.waiting = append(s.waiting, done)
	}
	if s.cancel != nil {
		return true
	}
	s.latest, s.fetched = now, true
	var ctx context.Context
	ctx, s.cancel = context.WithCancel(context.Background())
	s.all.Go(func() {
		err := errPanic
		defer func() { s.ended(err) }()
		defer s.env.Faults.Contain(owner.Verifier)
		err = s.load(ctx)
	})
	return true
}

var errPanic = errors.New("the fetch has failed")

// ended is called after a fetch.
func (s *source) ended(err error) {
	s.mu.Lock()
	s.cancel()
	waiting := s.waiting
	s.cancel, s.waiting = nil, nil
	if !s.closed {
		s.note(err)
		s.alarm.Reset(s.pause())
	}
	s.mu.Unlock()
	for _, f := range waiting {
		f()
	}
}

// note logs a fetch's end: the first failure of several, and the first success after them. The
// caller holds s.mu.
func (s *source) note(err error) {
	set := s.current.Load()
	if set != nil {
		s.env.Metrics.Keys.Set(int64(len(set.keys)))
	}
	switch {
	case err != nil && s.failures == 0 && set == nil:
		s.env.Log.Error("cannot fetch the keys of tokens; clients with a token get 503 until that succeeds", "error", err)
	case err != nil && s.failures == 0:
		s.env.Log.Error("cannot fetch the keys of tokens; those fetched before stay in use", "error", err)
	case err == nil && s.failures > 0:
		s.env.Log.Info("keys of tokens fetched again", "jwks", s.name(), "keys", len(set.keys), "ignored", set.ignored)
	case err == nil && s.alarm == nil:
		s.env.Log.Info("keys of tokens fetched", "jwks", s.name(), "keys", len(set.keys), "ignored", set.ignored)
	}
	if s.failures++; err == nil {
		s.failures = 0
	}
}

// pause returns the time to the next fetch. The caller holds s.mu.
func (s *source) pause() time.Duration {
	refresh := time.Duration(s.refresh.Load())
	if s.failures == 0 {
		return refresh
	}
	return min(retryFirst<<min(s.failures-1, 10), retryMost, refresh)
}
