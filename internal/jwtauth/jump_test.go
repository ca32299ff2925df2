package jwtauth

import (
	"fmt"
	"testing"
	"time"
)

// TestClockJumps: tokens are judged by the date at which they are presented, those verified before
// too, whichever way the clock was set. Keys are fetched by monotonic time.
func TestClockJumps(t *testing.T) {
	present := now
	wall := func() time.Time { return present }
	p, err := newPolicy(Options{Secret: hmacSecret, TID: "sub"}, nil, wall)
	if err != nil {
		t.Fatal(err)
	}
	token := hs(t, fmt.Sprintf(`{"sub":"ada","nbf":%d,"exp":%d}`, now.Unix()-60, now.Unix()+60))
	const hours = 3 * 3600
	for i, step := range []struct {
		at   int
		hit  bool
		want Outcome
		ttl  time.Duration
	}{
		{0, false, Valid, time.Minute},
		{hours, false, Expired, 0},
		{0, true, Valid, time.Minute},
		{-hours, false, NotYetValid, 0},
		{-30, false, Valid, 90 * time.Second},
		{-20, true, Valid, 80 * time.Second},
	} {
		present = now.Add(time.Duration(step.at) * time.Second)
		if g, o, _, hit := p.check(token, wall); hit != step.hit || o != step.want || g.TTL != step.ttl {
			t.Errorf("step %d: %v, hit %v, ends in %v; want %+v", i, o, hit, g.TTL, step)
		}
	}

	i := newIssuer(t, jwks(t, "rsa"))
	r := run(t, Options{JWKS: i.URL})
	r.expect(rs(t, "rsa"), Valid)
	fetches := r.env.Metrics.Fetches.Load()
	for _, jump := range []time.Duration{hours * time.Second, -2 * hours * time.Second} {
		r.clock.Jump(jump)
		r.expect(rs(t, "rsa"), Valid)
	}
	if n := r.env.Metrics.Fetches.Load(); n != fetches {
		t.Errorf("%d fetches because the clock was set", n-fetches)
	}
}
