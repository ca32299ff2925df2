package ratelimit

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// TestRate: a full bucket has the tokens of a Window, and what was taken comes in at the rate.
func TestRate(t *testing.T) {
	for _, r := range []Rate{1, 3, 7, 10, 999, 10_000, 1_000_000} {
		t.Run(fmt.Sprint(r), func(t *testing.T) {
			const start = time.Hour
			most := int(r) * int(Window/time.Second)
			var full time.Duration
			for i := range most {
				if wait := r.Wait(full, start, 1); wait > 0 {
					t.Fatalf("token %d of %d: wait %v", i+1, most, wait)
				}
				full = r.Spend(full, start, 1)
			}
			wait := r.Wait(full, start, 1)
			if each := time.Second / time.Duration(r); wait < each-time.Duration(most) || wait > each {
				t.Errorf("an empty bucket has a token in %v, want some %v", wait, each)
			}
			if wait := r.Wait(full, start+wait, 1); wait > 0 {
				t.Errorf("then %v are missing", wait)
			}
			if wait := r.Wait(full, start+Window, most); wait > 0 {
				t.Errorf("a Window later it is full but for %v", wait)
			}
			if wait := r.Wait(full, start+100*Window, most+1); wait == 0 {
				t.Error("a bucket holds more than a Window's tokens")
			}
		})
	}
}

// TestRateLongRun: however the times are chosen, no more goes through than a Window's tokens and
// what comes in.
func TestRateLongRun(t *testing.T) {
	for seed := range uint64(10) {
		random := rand.New(rand.NewPCG(seed, 0))
		r := Rate(1 + random.IntN(2000))
		const start = time.Hour
		now, full, taken := start, time.Duration(0), 0
		for range 20_000 {
			now += time.Duration(random.ExpFloat64() * float64(time.Second) / float64(r) / 2)
			if r.Wait(full, now, 1) == 0 {
				full = r.Spend(full, now, 1)
				taken++
			}
		}
		most := float64(r) * (now - start + Window).Seconds()
		if float64(taken) > most*1.0001+1 || float64(taken) < min(most, 20_000)*0.9 {
			t.Errorf("seed %d, %d/s: %d tokens in %v, want some %.0f", seed, r, taken, now-start, most)
		}
	}
}

// TestRateDebt: more than there is can be spent, and is paid back.
func TestRateDebt(t *testing.T) {
	r := Rate(1 << 20)
	full := r.Spend(0, time.Hour, 30<<20)
	if wait := r.Wait(full, time.Hour, 0); wait != 20*time.Second {
		t.Errorf("after 30 s' worth it waits for %v, want 20 s", wait)
	}
	const most = 1 << 30
	if cost := Rate(1).Cost(most); cost != most*time.Second {
		t.Errorf("%d tokens at 1/s cost %v", most, cost)
	}
}
