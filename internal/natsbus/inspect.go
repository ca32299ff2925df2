package natsbus

import "time"

// InFlight describes a request in flight.
type InFlight struct {
	Subject string
	Age     time.Duration // since it was made
	Sent    bool          // false: it waits to be sent
}

// Each calls f for at most n of the group's requests, the newest first. Only the caller's owner may
// call it.
func (g *Group) Each(n int, f func(InFlight)) {
	for s := g.first; s != nil && n > 0; s, n = s.after, n-1 {
		f(InFlight{Subject: s.subject, Age: s.caller.now() - s.made, Sent: s.stage() != unsent})
	}
}
