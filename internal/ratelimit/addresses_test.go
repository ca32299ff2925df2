package ratelimit

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"
)

const start = time.Hour

func addr(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}

// entries returns how many the tables have.
func (a *Addresses) entries() (n int) {
	for i := range a.open.shard {
		n += len(a.open.shard[i].n)
	}
	for _, b := range []*buckets{&a.handshakes, &a.requests} {
		for i := range b.shard {
			n += len(b.shard[i].young) + len(b.shard[i].old)
		}
	}
	return n
}

func TestConnections(t *testing.T) {
	m := new(Metrics)
	a := New(Options{Connections: 2, Metrics: m})
	k1, no := a.Admit(addr(1), start)
	k2, no2 := a.Admit(addr(1), start)
	if no != nil || no2 != nil || k1 == 0 || k1 != k2 {
		t.Fatalf("keys %x, %x, refused: %v, %v", k1, k2, no, no2)
	}
	k, no := a.Admit(addr(1), start)
	if k != 0 || no == nil || no.RetryAfter() < 1 || m.Connections.Load() != 1 {
		t.Fatalf("the third: key %x, refused: %v; %d counted", k, no, m.Connections.Load())
	}
	if _, no := a.Admit(addr(2), start); no != nil {
		t.Fatalf("another address: %v", no)
	}
	if n := m.Addresses.Load(); n != 2 {
		t.Errorf("%d addresses have connections, want 2", n)
	}
	a.Leave(k1)
	a.Return(k1)
	a.Return(k1) // it had been served elsewhere meanwhile: the limit does not count
	for range 2 {
		if _, no := a.Admit(addr(1), start); no == nil {
			t.Fatal("one too many was admitted")
		}
		a.Leave(k1)
	}
	if _, no := a.Admit(addr(1), start); no != nil {
		t.Errorf("after the others had left: %v", no)
	}
	a.Leave(k1)
	a.Leave(k1)
	a.Leave(KeyOf(addr(2)))
	if n := a.entries(); n != 0 || m.Addresses.Load() != 0 {
		t.Errorf("%d entries, %d addresses are left", n, m.Addresses.Load())
	}
}

func TestHandshakesAndRequests(t *testing.T) {
	m := new(Metrics)
	a := New(Options{Handshakes: 2, Requests: 3, Metrics: m})
	for i := range 20 {
		if k, no := a.Admit(addr(1), start); no != nil || k != 0 {
			t.Fatalf("handshake %d: key %x, %v", i, k, no)
		}
	}
	if _, no := a.Admit(addr(1), start); no == nil || no.After != time.Second/2 || no.RetryAfter() != 1 {
		t.Fatalf("handshake 21: %+v", no)
	}
	if _, no := a.Admit(addr(2), start); no != nil {
		t.Fatalf("another address: %+v", no)
	}
	if _, no := a.Admit(addr(1), start+time.Second/2); no != nil {
		t.Fatalf("half a second later: %+v", no)
	}
	for i := range 30 {
		if no := a.Request(addr(1), start); no != nil {
			t.Fatalf("request %d: %v", i, no)
		}
	}
	if no := a.Request(addr(1), start); no == nil {
		t.Fatal("request 31 was admitted")
	}
	if h, r := m.Handshakes.Load(), m.Requests.Load(); h != 1 || r != 1 {
		t.Errorf("%d handshakes and %d requests counted as refused", h, r)
	}
}

// TestAdjust: limits begin, change and end while clients are there, and no count is left over.
func TestAdjust(t *testing.T) {
	a := New(Options{})
	early, no := a.Admit(addr(1), start)
	if early != 0 || no != nil {
		t.Fatalf("without limits: key %x, %v", early, no)
	}
	a.Adjust(Options{Connections: 2, Handshakes: 1, Requests: 1})
	first, no1 := a.Admit(addr(1), start)
	second, no2 := a.Admit(addr(1), start)
	if no1 != nil || no2 != nil || first == 0 || second == 0 {
		t.Fatalf("within the limit: %v, %v", no1, no2)
	}
	if _, no := a.Admit(addr(1), start); no == nil {
		t.Error("a third connection is admitted")
	}
	for range 10 {
		if no := a.Request(addr(1), start); no != nil {
			t.Fatal(no)
		}
	}
	if no := a.Request(addr(1), start); no == nil || no.After != time.Second {
		t.Errorf("beyond the rate: %+v", no)
	}
	a.Adjust(Options{Connections: 3, Requests: 10})
	if no := a.Request(addr(1), start); no == nil || no.After > 100*time.Millisecond {
		t.Errorf("the bucket is still full at another rate: %+v", no)
	}
	third, no := a.Admit(addr(1), start)
	if no != nil {
		t.Errorf("the third at the higher limit: %+v", no)
	}
	a.Adjust(Options{Exempt: Networks{netip.MustParsePrefix("0.0.0.0/8")}})
	if !a.Exempt(addr(1)) || a.Request(addr(1), start) != nil {
		t.Error("the network is not exempt")
	}
	for _, k := range []Key{early, first, second, third} {
		a.Leave(k)
	}
	if n := len(a.open.shard[shardOf(a.open.seed, first)].n); n != 0 || a.metrics.Addresses.Load() != 0 {
		t.Errorf("%d addresses are left", n)
	}
}

// TestExempt: neither exempt networks nor proxies are limited, and only the former have no limits
// at all.
func TestExempt(t *testing.T) {
	a := New(Options{Connections: 1, Handshakes: 1, Requests: 1,
		Exempt:  Networks{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")},
		Proxies: Networks{netip.MustParsePrefix("192.0.2.0/24")}})
	for text, exempt := range map[string]bool{"10.1.1.1": true, "::ffff:10.1.1.1": true, "2001:db8::1%eth0": true, "192.0.2.1": false} {
		ip := netip.MustParseAddr(text)
		for range 100 {
			if k, no := a.Admit(ip, start); k != 0 || no != nil {
				t.Fatalf("%s: key %x, %v", text, k, no)
			}
			if no := a.Request(ip, start); no != nil {
				t.Fatalf("%s: %v", text, no)
			}
		}
		if a.Exempt(ip) != exempt {
			t.Errorf("%s is exempt: %v", text, !exempt)
		}
	}
	if n := a.entries(); n != 0 {
		t.Errorf("%d entries", n)
	}
}

// TestNoLimits: without limits nothing is counted.
func TestNoLimits(t *testing.T) {
	for _, a := range []*Addresses{nil, New(Options{Proxies: Networks{netip.MustParsePrefix("10.0.0.0/8")}})} {
		k, no := a.Admit(addr(1), start)
		a.Return(k)
		a.Leave(k)
		if k != 0 || no != nil || a.Request(addr(1), start) != nil || a.Exempt(addr(1)) || a.Limiting() {
			t.Error("no limits limit")
		}
		if a != nil && a.entries() != 0 {
			t.Error("there are entries")
		}
	}
	if a := New(Options{Exempt: Networks{netip.MustParsePrefix("10.0.0.0/8")}}); !a.Exempt(netip.MustParseAddr("10.0.0.1")) {
		t.Error("no network is exempt from limits that are not by address")
	}
}

// TestBucketsAsWithoutRotation: that full buckets are forgotten makes no difference.
func TestBucketsAsWithoutRotation(t *testing.T) {
	for seed := range uint64(10) {
		random := rand.New(rand.NewPCG(seed, 1))
		a := New(Options{Requests: Rate(1 + random.IntN(5))})
		want := map[netip.Addr]time.Duration{}
		now, refused := start, 0
		for i := range 20_000 {
			pause := time.Duration(random.ExpFloat64() * float64(20*time.Millisecond))
			if random.IntN(1000) == 0 {
				pause = time.Duration(random.Int64N(int64(3 * Window)))
			}
			now += pause
			ip := addr(uint32(random.IntN(6)))
			r := a.now.Load().Requests
			wait := r.Wait(want[ip], now, 1)
			if wait == 0 {
				want[ip] = r.Spend(want[ip], now, 1)
			} else {
				refused++
			}
			no := a.Request(ip, now)
			if (no != nil) != (wait > 0) || no != nil && no.After != wait {
				t.Fatalf("seed %d, request %d: refused %+v, want a wait of %v", seed, i, no, wait)
			}
		}
		if refused == 0 {
			t.Errorf("seed %d refuses nothing", seed)
		}
	}
}

// TestIdleAddresses: addresses that have been quiet for two Windows have no entry once another
// token is asked for.
func TestIdleAddresses(t *testing.T) {
	a := New(Options{Handshakes: 1, Requests: 1})
	for i := range uint32(10_000) {
		a.Admit(addr(i), start)
		a.Request(addr(i), start)
	}
	if n := a.entries(); n != 20_000 {
		t.Fatalf("%d entries, want 20,000", n)
	}
	for i := range uint32(10_000) { // some in each shard
		a.Admit(addr(1<<24+i), start+2*Window)
		a.Request(addr(1<<24+i), start+2*Window)
	}
	if n := a.entries(); n != 20_000 {
		t.Errorf("%d entries, want those of the newest 10,000 addresses", n)
	}
}

// TestTrackedBound: when there is no room for further buckets, addresses that have one are limited
// as before, others are not, and that is counted.
func TestTrackedBound(t *testing.T) {
	m := new(Metrics)
	a := New(Options{Requests: 1, Tracked: shards, Metrics: m})
	for i := range uint32(10_000) {
		if no := a.Request(addr(i), start); no != nil {
			t.Fatal("the first request of an address was refused")
		}
	}
	if n := a.entries(); n != shards || m.Untracked.Load() != 10_000-shards {
		t.Errorf("%d entries, want %d; %d requests were not limited", n, shards, m.Untracked.Load())
	}
	limited := 0
	for i := range uint32(10_000) {
		for range 9 {
			a.Request(addr(i), start)
		}
		if a.Request(addr(i), start) != nil {
			limited++
		}
	}
	if limited != shards {
		t.Errorf("%d addresses are limited, want %d", limited, shards)
	}
}

// TestCountsShrink: what an onslaught has made the table take is given back.
func TestCountsShrink(t *testing.T) {
	a := New(Options{Connections: 1})
	const n = shards * shrinkFrom * 2
	for i := range uint32(n) {
		a.Admit(addr(i), start)
	}
	for i := range uint32(n) {
		a.Leave(KeyOf(addr(i)))
	}
	for i := range a.open.shard {
		if peak := a.open.shard[i].peak; peak >= shrinkFrom {
			t.Fatalf("shard %d still has a map of %d entries", i, peak)
		}
	}
}

// TestConcurrent: loops share the tables.
func TestConcurrent(t *testing.T) {
	m := new(Metrics)
	a := New(Options{Connections: 20, Handshakes: 1000, Requests: 10, Metrics: m})
	var all sync.WaitGroup
	for g := range uint64(8) {
		all.Go(func() {
			random := rand.New(rand.NewPCG(g, 2))
			var open []Key
			for i := range 20_000 {
				now := start + time.Duration(i)*time.Millisecond
				ip := addr(uint32(random.IntN(10)))
				if k, _ := a.Admit(ip, now); k != 0 {
					open = append(open, k)
				}
				a.Request(ip, now)
				if len(open) > 0 && random.IntN(2) == 0 {
					a.Leave(open[0])
					open = open[1:]
				}
			}
			for _, k := range open {
				a.Leave(k)
			}
		})
	}
	all.Wait()
	for i := range a.open.shard {
		if n := len(a.open.shard[i].n); n != 0 {
			t.Errorf("shard %d has %d addresses with connections", i, n)
		}
	}
	if m.Addresses.Load() != 0 || m.Connections.Load() == 0 {
		t.Errorf("%d addresses left, %d connections refused", m.Addresses.Load(), m.Connections.Load())
	}
}

func BenchmarkAdmit(b *testing.B) {
	a := New(Options{Connections: 1 << 20, Handshakes: 1_000_000})
	b.ReportAllocs()
	var n uint32
	for b.Loop() {
		k, _ := a.Admit(addr(n%100_000), start+time.Duration(n)*time.Microsecond)
		a.Leave(k)
		n++
	}
}
