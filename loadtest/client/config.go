//go:build linux

package client

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Config describes the clients of one process. It is sent to client processes as JSON. An
// Engine copies it.
type Config struct {
	Protocol string `json:"protocol"`
	Addr     string `json:"addr"` // ip:port of the server
	Path     string `json:"path,omitempty"`

	TLS         bool   `json:"tls,omitempty"`         // certificates are not verified
	Compression bool   `json:"compression,omitempty"` // offer permessage-deflate
	HTTP        bool   `json:"http,omitempty"`        // plain HTTP connections instead of WebSocket
	HTTPTarget  string // of GET requests
	Streams     string `json:"streams,omitempty"` // path prefix of event streams instead of WebSocket; empty: none, but Mercure's clients have nothing else
	Token       string `json:"token,omitempty"`   // in Authorization: Bearer; empty: none

	First int `json:"first"` // index of the first client among all clients of the run
	Count int `json:"count"` // clients of this process

	Topics    int `json:"topics"`    // topics of the run
	PerClient int `json:"perClient"` // subscriptions of each client
	Models    int `json:"models"`    // resources that churning clients subscribe to

	Threads     int     `json:"threads"`     // 0: 1
	Inflight    int     `json:"inflight"`    // connects in flight; 0: 128
	ConnectRate float64 `json:"connectRate"` // connections per second; 0: as fast as Inflight allows

	Slow     float64 `json:"slow,omitempty"`     // share of the clients that read slowly
	SlowRate int     `json:"slowRate,omitempty"` // bytes per second that each slow client reads; 0: none

	// Numbered events are checked for gaps and repetitions. Each topic's begin with 0, and come at
	// equal intervals, and no client connects for the first time later than that.
	Numbered bool `json:"numbered,omitempty"`
	// Return has clients that lose their connection, or get none, connect again: after half to all
	// of this time, which doubles with each attempt that fails. 0: they stay away.
	Return time.Duration `json:"return,omitempty"`
}

// check returns the server's address, or what is wrong with c.
func (c Config) check() (netip.AddrPort, error) {
	addr, err := netip.ParseAddrPort(c.Addr)
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()) // ::ffff:127.0.0.1 is on the loopback, too
	switch {
	case err != nil:
		return addr, fmt.Errorf("the server's address is not ip:port: %w", err)
	case c.Count < 1:
		return addr, errors.New("there must be at least one client")
	case c.PerClient > c.Topics:
		return addr, fmt.Errorf("a client cannot have %d different subscriptions of %d topics", c.PerClient, c.Topics)
	case c.Numbered && c.PerClient != 1:
		return addr, errors.New("a client of numbered events has one subscription")
	case c.Streams != "" && c.Protocol != ProtocolMercure && c.PerClient != 1:
		return addr, errors.New("an event stream has one subscription")
	case strings.ContainsAny(c.Token, "\r\n"):
		return addr, errors.New("the token has a line end")
	case c.Slow < 0 || c.Slow > 1:
		return addr, errors.New("the share of slow clients must be between 0 and 1")
	}
	return addr, nil
}

// streaming reports whether the clients read event streams: because they are to, or because their
// protocol has nothing else.
func (c Config) streaming() bool { return c.Streams != "" || c.Protocol == ProtocolMercure }

// TopicsOf appends the topics of the i-th client of the run to dst. It assigns topics
// round-robin, so that their numbers of subscribers differ by at most one.
func (c Config) TopicsOf(dst []int, i int) []int {
	for j := range c.PerClient {
		dst = append(dst, (i*c.PerClient+j)%c.Topics)
	}
	return dst
}

// IsSlow reports whether the i-th client of the run is slow. Slow clients are spread
// evenly over the run.
func (c Config) IsSlow(i int) bool {
	return int(float64(i+1)*c.Slow) > int(float64(i)*c.Slow)
}

// Subscribers returns the number of subscribers of each topic among n clients of the run from First
// on, without slow ones.
func (c Config) Subscribers(n int) []int {
	counts := make([]int, max(c.Topics, 1))
	var topics []int
	for i := c.First; i < c.First+n; i++ {
		if c.IsSlow(i) {
			continue
		}
		topics = c.TopicsOf(topics[:0], i)
		for _, topic := range topics {
			counts[topic]++
		}
	}
	return counts
}

// Load describes a series of requests.
type Load struct {
	Kind   string  `json:"kind"`   // call, get (HTTP), churn (subscribe, call, unsubscribe) or page (open, leave)
	Rate   float64 `json:"rate"`   // requests per second; 0: as fast as responses arrive
	Window int     `json:"window"` // requests in flight per client; 0: 1
	Until  int64   `json:"until"`  // the time of Now at which the series ends; requests that were due before it may be made up to a second later
}

// Counters counts what a thread or process has done. The first three are gauges; all
// others count since the phase began.
type Counters struct {
	Open  int `json:"open"`  // connections that have a socket
	Ready int `json:"ready"` // of these, with all subscriptions confirmed
	Slow  int `json:"slow"`  // of the ready ones, slow ones

	Failed  int `json:"failed"`  // connections that never became ready
	Refused int `json:"refused"` // of these, those that the kernel refused: nobody listened
	Closed  int `json:"closed"`  // ready connections that the server closed
	Revoked int `json:"revoked"` // subscriptions that the server ended

	Deliveries     int64 `json:"deliveries"`     // events received by clients that are not slow
	SlowDeliveries int64 `json:"slowDeliveries"` // events received by slow clients
	Stale          int64 `json:"stale"`          // events that were due before the phase began
	Disorder       int64 `json:"disorder"`       // events received after one that was due later, with one topic per client
	Answers        int64 `json:"answers"`        // responses
	Errors         int64 `json:"errors"`         // responses that were errors
	Issued         int64 `json:"issued"`         // requests made
	Waiting        int64 `json:"waiting"`        // requests in flight
	Unanswered     int64 `json:"unanswered"`     // requests whose connection was lost before the response
	Missed         int64 `json:"missed"`         // numbered events that a client did not get before a later one
	Repeated       int64 `json:"repeated"`       // numbered events that a client got after the same or a later one
	Unsent         int64 `json:"unsent"`         // requests that were due and not made, because the window of every client was full
	Strange        int64 `json:"strange"`        // messages that the driver does not know

	Frames     int64 `json:"frames"`
	Compressed int64 `json:"compressed"` // messages received compressed
	Reads      int64 `json:"reads"`      // system calls
	Bytes      int64 `json:"bytes"`      // read, before decryption and decompression

	// Fewest and Most are the extremes of the events that one client received in the phase,
	// without slow and closed ones.
	Fewest int64 `json:"fewest"`
	Most   int64 `json:"most"`

	// Oldest is when the newest event of the client that is furthest behind was due; 0: one has
	// received none. Slow and closed clients do not count.
	Oldest int64 `json:"oldest"`

	LastError string `json:"lastError,omitempty"`
}

// Add adds o to c.
func (c *Counters) Add(o Counters) {
	c.Open += o.Open
	c.Ready += o.Ready
	c.Slow += o.Slow
	c.Failed += o.Failed
	c.Refused += o.Refused
	c.Closed += o.Closed
	c.Revoked += o.Revoked
	c.Deliveries += o.Deliveries
	c.SlowDeliveries += o.SlowDeliveries
	c.Stale += o.Stale
	c.Disorder += o.Disorder
	c.Answers += o.Answers
	c.Errors += o.Errors
	c.Issued += o.Issued
	c.Waiting += o.Waiting
	c.Unanswered += o.Unanswered
	c.Missed += o.Missed
	c.Repeated += o.Repeated
	c.Unsent += o.Unsent
	c.Strange += o.Strange
	c.Frames += o.Frames
	c.Compressed += o.Compressed
	c.Reads += o.Reads
	c.Bytes += o.Bytes
	if o.Fewest < c.Fewest || c.Most == 0 {
		c.Fewest = o.Fewest
	}
	if o.Oldest < c.Oldest || c.Most == 0 {
		c.Oldest = o.Oldest
	}
	c.Most = max(c.Most, o.Most)
	if c.LastError == "" {
		c.LastError = o.LastError
	}
}
