package ratelimit

import "time"

// Window is how much a bucket holds: the tokens that come in during this time.
const Window = 10 * time.Second

// Rate is how many tokens per second come into a bucket. Zero does not limit.
//
// A bucket is one number, the time at which it is full again (the generic cell rate algorithm): a
// token that is taken out postpones it by the time that the next one takes to come in. So a bucket
// needs no timer to be filled, and one that is full needs no memory. Zero is a full bucket.
type Rate int

// Cost returns how long n tokens take to come in.
func (r Rate) Cost(n int) time.Duration { return time.Duration(n) * time.Second / time.Duration(r) }

// Spend returns the bucket that is left of full after n tokens have been taken out at now, whether
// they are there or not.
func (r Rate) Spend(full, now time.Duration, n int) time.Duration {
	return max(full, now) + r.Cost(n)
}

// Wait returns how long it takes until a bucket has n tokens; 0: it has.
func (r Rate) Wait(full, now time.Duration, n int) time.Duration {
	return max(r.Spend(full, now, n)-now-Window, 0)
}
