package jwtauth

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"
)

// at returns a wall clock that stands at a number of seconds after now.
func at(seconds int) func() time.Time {
	return func() time.Time { return now.Add(time.Duration(seconds) * time.Second) }
}

// A token that was valid is not verified again, and has the same grant, until it ends.
func TestCache(t *testing.T) {
	p := policyOf(t, Options{Secret: hmacSecret, TID: "sub"}, "")
	token := hs(t, fmt.Sprintf(`{"sub":"ada","exp":%d}`, now.Unix()+60))
	forever := hs(t, `{"sub":"bob"}`)
	for _, step := range []struct {
		token string
		at    int
		hit   bool
		want  Outcome
		ttl   time.Duration
	}{
		{token, 0, false, Valid, time.Minute},
		{token, 1, true, Valid, 59 * time.Second},
		{token, 59, true, Valid, time.Second},
		{token, 60, false, Expired, 0},
		{token + "x", 1, false, Signature, 0},
		{token + "x", 1, false, Signature, 0}, // only valid ones are cached
		{token, 1, true, Valid, 59 * time.Second},
		{forever, 0, false, Valid, 0},
		{forever, 1 << 30, true, Valid, 0},
	} {
		g, o, _, hit := p.check(step.token, at(step.at))
		if hit != step.hit || o != step.want || g.TTL != step.ttl {
			t.Errorf("%.20s… at %d s: %v %v, hit %v; want %+v", step.token, step.at, o, g, hit, step)
		}
		if o == Valid && (g.TID == "" || !strings.Contains(g.Token, g.TID)) {
			t.Errorf("grant %+v", g)
		}
	}
	if _, _, _, hit := policyOf(t, Options{Secret: hmacSecret}, "").check(forever, at(0)); hit {
		t.Error("other settings begin with what was verified before")
	}
}

// Other keys end what was verified with those before.
func TestCacheEndsWithKeys(t *testing.T) {
	i := newIssuer(t, jwks(t, "rsa"))
	r := run(t, Options{JWKS: i.URL})
	r.expect(rs(t, "rsa"), Valid)
	r.expect(rs(t, "rsa"), Valid)
	if n := r.env.Metrics.CacheHits.Load(); n != 1 {
		t.Errorf("%d hits, want 1", n)
	}
	i.serve(jwks(t, "rsa2"))
	r.clock.Advance(fetchPause)
	r.expect(rs(t, "rsa2"), Valid) // has them fetched
	r.expect(rs(t, "rsa"), UnknownKey)
}

// The cache is bounded, whatever clients send.
func TestCacheIsBounded(t *testing.T) {
	c := newCache()
	grant := Grant{Token: "{}"}
	for n := range 4 * cacheSets * cacheWays {
		sum := c.sum(fmt.Sprint(n))
		c.add(&sum, nil, grant, now.Add(time.Duration(n)))
		if _, ok := c.find(&sum, nil, now.Add(time.Duration(n))); !ok {
			t.Fatal("the newest token is not found")
		}
	}
	if size := unsafe.Sizeof(*c); size > 256<<10 {
		t.Errorf("an empty cache has %d bytes", size)
	}
	sum := c.sum("long")
	c.add(&sum, nil, Grant{Token: strings.Repeat("x", maxCached+1)}, now)
	if _, ok := c.find(&sum, nil, now); ok {
		t.Error("a grant of any length is cached")
	}
}

// Workers share a cache: for the race detector.
func TestCacheInParallel(t *testing.T) {
	p := policyOf(t, Options{Secret: hmacSecret}, "")
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for n := range 500 {
				if g, o, _, _ := p.check(hs(t, fmt.Sprintf(`{"n":%d}`, n%50)), wall); o != Valid || g.Token != fmt.Sprintf(`{"n":%d}`, n%50) {
					t.Error(o, g)
				}
			}
		})
	}
	all.Wait()
}
