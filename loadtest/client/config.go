//go:build linux

package client

import (
	"errors"
	"fmt"
	"net/netip"
)

// Config is what the clients of one process are. It crosses process borders as
// JSON. It is fixed once an Engine was made of it.
type Config struct {
	Protocol string `json:"protocol"`
	Addr     string `json:"addr"` // ip:port of the server
	Path     string `json:"path,omitempty"`

	TLS         bool `json:"tls,omitempty"`         // certificates are not checked: this is no test of them
	Compression bool `json:"compression,omitempty"` // offer permessage-deflate
	HTTP        bool `json:"http,omitempty"`        // plain HTTP connections instead of WebSocket
	HTTPTarget  string

	First int `json:"first"` // index of the first client among all of the run
	Count int `json:"count"` // clients of this process

	Topics    int `json:"topics"`    // topics of the run
	PerClient int `json:"perClient"` // subscriptions of each client
	Models    int `json:"models"`    // resources that churning clients choose from

	Threads     int     `json:"threads"`     // 0: 1
	Inflight    int     `json:"inflight"`    // connections being made at a time; 0: 128
	ConnectRate float64 `json:"connectRate"` // connections per second; 0: as fast as Inflight allows

	Slow     float64 `json:"slow,omitempty"`     // part of the clients that read slowly
	SlowRate int     `json:"slowRate,omitempty"` // bytes per second that each of them reads; 0: none at all
}

func (c Config) check() (netip.AddrPort, error) {
	addr, err := netip.ParseAddrPort(c.Addr)
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()) // ::ffff:127.0.0.1 is of the loopback, too
	switch {
	case err != nil:
		return addr, fmt.Errorf("the server's address is not ip:port: %w", err)
	case c.Count < 1:
		return addr, errors.New("there must be at least one client")
	case c.PerClient > c.Topics:
		return addr, fmt.Errorf("a client cannot have %d different subscriptions of %d topics", c.PerClient, c.Topics)
	case c.Slow < 0 || c.Slow > 1:
		return addr, errors.New("the part of slow clients must be between 0 and 1")
	}
	return addr, nil
}

// TopicsOf returns the topics of the i-th client of the run: they go round, so
// that each topic has the same number of subscribers, give or take one.
func (c Config) TopicsOf(dst []int, i int) []int {
	for j := range c.PerClient {
		dst = append(dst, (i*c.PerClient+j)%c.Topics)
	}
	return dst
}

// IsSlow reports whether the i-th client of the run is one of the slow ones,
// which are spread evenly.
func (c Config) IsSlow(i int) bool {
	return int(float64(i+1)*c.Slow) > int(float64(i)*c.Slow)
}

// Subscribers counts the clients per topic among the first n of the run that
// are not slow.
func (c Config) Subscribers(n int) []int {
	counts := make([]int, max(c.Topics, 1))
	var topics []int
	for i := range n {
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

// Load is a series of requests that the clients of one process make.
type Load struct {
	Kind   string  `json:"kind"`   // call, get (HTTP) or churn (subscribe, call, unsubscribe)
	Rate   float64 `json:"rate"`   // requests per second of the process; 0: as fast as answers come
	Window int     `json:"window"` // requests under way per client; 0: 1
	Until  int64   `json:"until"`  // the time of Now at which no more are made
}

// Counters are a thread's or a process's counts. All but the first three are
// since the phase began.
type Counters struct {
	Open  int `json:"open"`  // connections that have a socket
	Ready int `json:"ready"` // of these: all subscriptions confirmed
	Slow  int `json:"slow"`  // of the ready ones: slow ones

	Failed  int `json:"failed"`  // connections that never became ready
	Closed  int `json:"closed"`  // ready connections that the server ended
	Revoked int `json:"revoked"` // subscriptions that the server ended

	Deliveries     int64 `json:"deliveries"`     // events at clients that are not slow
	SlowDeliveries int64 `json:"slowDeliveries"` // events at slow ones
	Stale          int64 `json:"stale"`          // events that were due before the phase began
	Disorder       int64 `json:"disorder"`       // events that were due before one that came earlier, with one topic per client
	Answers        int64 `json:"answers"`        // to requests
	Errors         int64 `json:"errors"`         // of these: errors
	Issued         int64 `json:"issued"`         // requests made
	Waiting        int64 `json:"waiting"`        // requests without answer yet
	Unsent         int64 `json:"unsent"`         // requests that were due and not made, because all clients waited for answers
	Strange        int64 `json:"strange"`        // messages that the driver does not know

	Frames     int64 `json:"frames"`
	Compressed int64 `json:"compressed"` // messages that came compressed
	Reads      int64 `json:"reads"`      // system calls
	Bytes      int64 `json:"bytes"`      // read, before decryption and decompression

	// Fewest and most events that one client got in the phase; slow ones and
	// those that are gone are left out.
	Fewest int64 `json:"fewest"`
	Most   int64 `json:"most"`

	LastError string `json:"lastError,omitempty"`
}

// Add counts o as well.
func (c *Counters) Add(o Counters) {
	c.Open += o.Open
	c.Ready += o.Ready
	c.Slow += o.Slow
	c.Failed += o.Failed
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
	c.Unsent += o.Unsent
	c.Strange += o.Strange
	c.Frames += o.Frames
	c.Compressed += o.Compressed
	c.Reads += o.Reads
	c.Bytes += o.Bytes
	if o.Fewest < c.Fewest || c.Most == 0 {
		c.Fewest = o.Fewest
	}
	c.Most = max(c.Most, o.Most)
	if c.LastError == "" {
		c.LastError = o.LastError
	}
}
