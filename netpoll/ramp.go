package netpoll

import (
	"net/http"
	"strconv"
	"time"
)

// refill is a token bucket. Owned by the loop.
type refill struct {
	tokens float64
	filled time.Duration // when tokens was right; 0: never
}

// fill adds the tokens that are due at rate per second, up to most, and returns how many there are.
// It is full at first.
func (b *refill) fill(rate, most float64, now time.Duration) float64 {
	if b.filled == 0 {
		b.tokens = most
	} else {
		b.tokens = min(b.tokens+(now-b.filled).Seconds()*rate, most)
	}
	b.filled = now
	return b.tokens
}

// ramp limits how many connections a loop accepts per second, so that clients that come back all at
// once come in over some seconds. It holds one second's worth.
type ramp struct{ refill }

// take reports whether one more connection may be accepted, at rate per second; 0: any number.
func (r *ramp) take(rate float64, now time.Duration) bool {
	if rate <= 0 {
		return true
	}
	if r.fill(rate, max(rate, 1), now) < 1 {
		return false
	}
	r.tokens--
	return true
}

// retrySpread bounds the seconds after which refused clients are told to come back. They get
// different ones, so that they do not all come back together.
const retrySpread = 10

// unavailable answers a connection over a limit with 503, says when to try again, and closes.
func (c httpConn) unavailable() {
	a := &c.loop.acceptor
	a.refused++
	header := "Retry-After: " + strconv.Itoa(1+int(a.refused*7%retrySpread)) + "\r\n"
	c.refuse(c.response(http.StatusServiceUnavailable, header, http.StatusText(http.StatusServiceUnavailable)+"\n"))
}
