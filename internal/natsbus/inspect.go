package natsbus

import "time"

// InFlight describes a request in flight.
type InFlight struct {
	Subject string
	Client  uint64        // of the Request
	Age     time.Duration // since it was made
	Sent    bool          // false: it waits to be sent
}

// Walk calls f for each request in flight of the page from, 256 at most, in no particular order.
// It returns the next page, -1 after the last one. Requests that were given up are not among them.
func (c *Caller) Walk(from int, f func(InFlight)) (next int) {
	if from < len(c.pages) {
		now := c.now()
		for i := range c.pages[from] {
			if s := &c.pages[from][i]; s.done != nil {
				f(InFlight{Subject: s.subject, Client: s.client, Age: now - s.made, Sent: s.stage() != unsent})
			}
		}
	}
	if from+1 >= len(c.pages) {
		return -1
	}
	return from + 1
}
