//go:build linux

package soak

import (
	"math/rand/v2"
	"time"
)

// faultKind is a kind of fault. The first group takes the system apart, one at a time; the second
// runs beside it.
type faultKind string

const (
	natsKill       faultKind = "NATS node killed"
	natsPause      faultKind = "NATS node frozen"
	natsPauseShort faultKind = "NATS node frozen briefly"
	cutOne         faultKind = "NATS node cut off"
	cutAll         faultKind = "NATS cut off"
	cutLong        faultKind = "NATS cut off beyond grace"
	gatewayPause   faultKind = "gateway frozen"
	gatewayStop    faultKind = "gateway restarted"
	gatewayKill    faultKind = "gateway killed"
	gatewayUpgrade faultKind = "gateway upgraded"
	servicePause   faultKind = "service frozen"
	serviceCrash   faultKind = "service crashed in replies"

	garbagePort   faultKind = "garbage to the port"
	garbageFrames faultKind = "garbage in frames"
	certificate   faultKind = "certificate replaced"
	settings      faultKind = "settings reloaded"
	slowReaders   faultKind = "slow readers"
	leaveTogether faultKind = "half of the clients leave"
	resetAll      faultKind = "services reset everything"
)

var (
	heavyKinds = []faultKind{natsKill, natsPause, natsPauseShort, cutOne, cutAll, cutLong, gatewayPause, gatewayStop, gatewayKill, gatewayUpgrade, servicePause, serviceCrash}
	lightKinds = []faultKind{garbagePort, garbageFrames, certificate, settings, slowReaders, leaveTogether, resetAll}
)

// fault is a planned fault.
type fault struct {
	kind    faultKind
	at      time.Duration // since the faults began; it begins later if the one before it in its lane is not over
	lasts   time.Duration // until its cause ends
	gateway int
	target  int // of NATS nodes or services
	seed    uint64
}

// schedule plans the faults of a soak: two lanes, each with all its kinds in random order, once at
// least, and again and again until the time is over.
func schedule(seed uint64, length time.Duration) (heavy, light []fault) {
	rng := rand.New(rand.NewPCG(seed, 3))
	// Room between faults: a healthy system in between shows what did not heal.
	lane := func(kinds []faultKind, least time.Duration) (faults []fault) {
		step := max(length/time.Duration(len(kinds)+1), 100*time.Millisecond)
		step = min(step, least)
		at := time.Duration(0)
		for first := true; first || at < length; first = false {
			for _, i := range rng.Perm(len(kinds)) {
				if !first && at >= length {
					break
				}
				at += step/2 + time.Duration(rng.Int64N(int64(step)))
				faults = append(faults, newFault(kinds[i], at, rng))
			}
		}
		return faults
	}
	return lane(heavyKinds, 15*time.Second), lane(lightKinds, 12*time.Second)
}

// newFault chooses a fault's target and how long it lasts.
func newFault(kind faultKind, at time.Duration, rng *rand.Rand) fault {
	f := fault{kind: kind, at: at, gateway: rng.IntN(gateways), target: rng.IntN(nodes), seed: rng.Uint64()}
	between := func(least, most time.Duration) time.Duration {
		return least + time.Duration(rng.Int64N(int64(most-least)))
	}
	switch kind {
	case natsKill:
		f.lasts = between(200*time.Millisecond, 3*time.Second)
	case natsPauseShort:
		f.lasts = between(natsPing/10, natsPing/2)
	case natsPause:
		f.lasts = between(3*natsPing, 4*natsPing) // it is noticed
	case cutOne:
		f.lasts = between(natsPing/2, 4*natsPing)
	case cutAll:
		f.lasts = between(natsPing/2, natsGrace/2)
	case cutLong:
		f.lasts = between(natsGrace+3*natsPing, natsGrace+5*natsPing)
	case gatewayPause:
		f.lasts = between(500*time.Millisecond, 4*time.Second)
	case gatewayStop:
		f.gateway = secured
	case gatewayKill:
		f.gateway, f.lasts = secured, between(0+time.Millisecond, time.Second)
	case servicePause, serviceCrash:
		f.target = rng.IntN(services)
		f.lasts = between(200*time.Millisecond, 4*time.Second)
	case certificate:
		f.gateway = secured
	case slowReaders:
		f.lasts = between(2*time.Second, 6*time.Second)
	}
	return f
}
