package netpoll

import "time"

// Info is what a loop knows of a connection, at one moment.
type Info struct {
	Handle    Handle
	Kind      string        // websocket, stream, or http before it has become one of these
	State     string        // state.go
	Remote    string        // the client's address, or that of the last proxy that names none
	TLS       bool          // the client speaks TLS
	Lagging   bool          // its socket does not take all output
	Paused    bool          // its next messages wait: it has too many requests in flight, or work in progress
	Throttled bool          // it has sent more than its rates allow
	Queued    int           // bytes that wait to be written
	Idle      time.Duration // since it was active
	Stalled   time.Duration // since its socket took something; 0 unless Lagging
}

// InfoOf returns what the loop knows of a connection. It must be called on the loop.
func InfoOf(c *Conn) Info {
	now := c.loop.now
	i := Info{
		Handle: c.Handle(), Kind: "http", State: c.state.String(), Remote: c.RemoteAddr(), TLS: c.flags&flagTLS != 0,
		Lagging: c.Lagging(), Paused: c.paused&^(pauseQuota|pauseRate) != 0, Throttled: c.paused&pauseRate != 0,
		Queued: int(c.queued), Idle: max(now-c.activeAt, 0),
	}
	switch {
	case c.flags&flagStream != 0:
		i.Kind = "stream"
	case c.flags&flagOpened != 0:
		i.Kind = "websocket"
	}
	if i.Lagging && c.more.slow.listed {
		i.Stalled = max(now-c.more.slow.since, 0)
	}
	return i
}

// Walk calls f for the connections in the next n slots of the loop's table, from on; the first call
// has 0. It returns where to go on, or -1 at the end. A connection that is open during the whole
// walk is visited once.
func (l *Loop) Walk(from, n int, f func(*Conn)) (next int) {
	slots := l.table.slots
	end := min(from+n, len(slots))
	for i := max(from, 0); i < end; i++ {
		if c := slots[i].conn; c != nil {
			f(c)
		}
	}
	if end == len(slots) {
		return -1
	}
	return end
}

// Slow calls f for at most n of the loop's slow consumers, the one that has taken nothing for
// longest first.
func (l *Loop) Slow(n int, f func(*Conn)) {
	for q := l.slow.first; q != nil && n > 0; q, n = q.slow.next, n-1 {
		f(q.conn)
	}
}

// Conns returns how many connections the loop has.
func (l *Loop) Conns() int { return l.table.used }
