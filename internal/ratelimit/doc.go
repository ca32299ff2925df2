// Package ratelimit limits how much clients may ask for in a time, and how much of it may come from
// one address. It owns the rule of the token bucket (Rate), and the counts and buckets of addresses
// (Addresses), which all event loops share.
//
// It never refuses anything itself: it reports a Refusal, and the caller responds. It has no timer,
// no goroutine and no socket; the time is an input.
package ratelimit
