package ratelimit

import (
	"hash/maphash"
	"net/netip"
	"sync/atomic"
	"time"
)

// DefaultTracked is how many addresses have a bucket at the same time, if Options do not say.
const DefaultTracked = 1 << 20

// Options are the limits of an address: an IPv4 address or a /64 of IPv6. Zero values do not limit.
// Adjust changes all but Tracked and Metrics.
type Options struct {
	Connections int  // open connections
	Handshakes  Rate // new connections
	Requests    Rate // HTTP requests

	// Exempt are networks whose clients have no limits, Proxies those that pass on the connections
	// of others: what comes from a proxy itself, and not from a client that it names, is not
	// limited by address.
	Exempt, Proxies Networks

	// Tracked is how many addresses have a bucket that is not full, for each rate. Beyond it, other
	// addresses are not limited; 0: DefaultTracked.
	Tracked int
	Metrics *Metrics // nil: counted nowhere
}

// Metrics counts what Addresses refuse. Addresses write it, any goroutine may read it. Addresses is
// a level, all others only grow.
type Metrics struct {
	Addresses   atomic.Int64  // that have connections which are counted
	Connections atomic.Uint64 // refused: Options.Connections
	Handshakes  atomic.Uint64 // refused: Options.Handshakes
	Requests    atomic.Uint64 // refused: Options.Requests
	Untracked   atomic.Uint64 // connections and requests not limited, because Options.Tracked had buckets
}

// Refusal is the reason why something goes beyond a limit of its address.
type Refusal struct {
	Why   string        // for the client; a constant
	After time.Duration // when it may try again
}

// Addresses limits clients by their address. Any goroutine may call its methods. A nil *Addresses
// limits nothing and exempts nobody.
type Addresses struct {
	now        atomic.Pointer[Options]
	metrics    *Metrics // fixed
	open       counts
	handshakes buckets
	requests   buckets
}

// New returns the limits that Options describe.
func New(o Options) *Addresses {
	if o.Tracked == 0 {
		o.Tracked = DefaultTracked
	}
	if o.Metrics == nil {
		o.Metrics = new(Metrics)
	}
	seed, most := maphash.MakeSeed(), (o.Tracked+shards-1)/shards
	a := &Addresses{
		metrics:    o.Metrics,
		open:       counts{seed: seed},
		handshakes: buckets{seed: seed, most: most},
		requests:   buckets{seed: seed, most: most},
	}
	a.now.Store(&o)
	return a
}

// Adjust replaces the limits. Connections that are counted stay so; those that were admitted while
// there was no limit of connections do not count.
func (a *Addresses) Adjust(o Options) { a.now.Store(&o) }

// Limiting reports whether there is any limit, or network that is exempt from others.
func (a *Addresses) Limiting() bool {
	if a == nil {
		return false
	}
	o := a.now.Load()
	return o.Connections > 0 || o.Handshakes > 0 || o.Requests > 0 || len(o.Exempt) > 0
}

// limited returns the key of an address, 0 if it is not limited.
func (o *Options) limited(addr netip.Addr) Key {
	if o.Exempt.Contain(addr) || o.Proxies.Contain(addr) {
		return 0
	}
	return KeyOf(addr)
}

// Admit counts a new connection from an address. Leave must follow with the key when it has ended,
// unless it is 0.
func (a *Addresses) Admit(addr netip.Addr, now time.Duration) (Key, *Refusal) {
	if a == nil {
		return 0, nil
	}
	o := a.now.Load()
	if o.Handshakes == 0 && o.Connections == 0 {
		return 0, nil
	}
	k := o.limited(addr)
	if k == 0 {
		return 0, nil
	}
	if o.Handshakes > 0 {
		wait, tracked := a.handshakes.take(k, now, o.Handshakes)
		if wait > 0 {
			a.metrics.Handshakes.Add(1)
			return 0, &Refusal{"too many new connections from this address", wait}
		}
		if !tracked {
			a.metrics.Untracked.Add(1)
		}
	}
	if o.Connections == 0 {
		return 0, nil
	}
	if !a.enter(k, o.Connections) {
		a.metrics.Connections.Add(1)
		return 0, &Refusal{"too many open connections from this address", Window}
	}
	return k, nil
}

// Return counts a connection again that has left for a moment only, beyond the limit if need be.
func (a *Addresses) Return(k Key) {
	if k != 0 {
		a.enter(k, 1<<31-1)
	}
}

// enter counts a connection, unless there are as many as limit.
func (a *Addresses) enter(k Key, limit int) bool {
	n := a.open.enter(k, limit)
	if n == 1 {
		a.metrics.Addresses.Add(1)
	}
	return n > 0
}

// Leave ends what Admit or Return has counted.
func (a *Addresses) Leave(k Key) {
	if k != 0 && a.open.leave(k) {
		a.metrics.Addresses.Add(-1)
	}
}

// Request counts an HTTP request from an address.
func (a *Addresses) Request(addr netip.Addr, now time.Duration) *Refusal {
	if a == nil {
		return nil
	}
	o := a.now.Load()
	if o.Requests == 0 {
		return nil
	}
	k := o.limited(addr)
	if k == 0 {
		return nil
	}
	wait, tracked := a.requests.take(k, now, o.Requests)
	if wait > 0 {
		a.metrics.Requests.Add(1)
		return &Refusal{"too many requests from this address", wait}
	}
	if !tracked {
		a.metrics.Untracked.Add(1)
	}
	return nil
}

// Exempt reports whether clients from an address have no limits.
func (a *Addresses) Exempt(addr netip.Addr) bool {
	return a != nil && a.now.Load().Exempt.Contain(addr)
}

// RetryAfter returns the field line of a response to what was refused (RFC 9110 §10.2.3), in whole
// seconds, 1 at least.
func (r *Refusal) RetryAfter() int { return int(max((r.After+time.Second-1)/time.Second, 1)) }
