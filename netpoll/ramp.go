package netpoll

import (
	"net/http"
	"strconv"
	"time"
)

// ramp limits how many connections a loop accepts per second, so that clients that come back all at
// once come in over some seconds. It is a token bucket that holds one second's worth. Owned by the
// loop.
type ramp struct {
	tokens float64
	filled time.Duration // when tokens was right; 0: never
}

// take reports whether one more connection may be accepted, at rate per second; 0: any number.
func (r *ramp) take(rate float64, now time.Duration) bool {
	if rate <= 0 {
		return true
	}
	most := max(rate, 1)
	if r.filled == 0 {
		r.tokens = most
	} else {
		r.tokens = min(r.tokens+(now-r.filled).Seconds()*rate, most)
	}
	r.filled = now
	if r.tokens < 1 {
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
