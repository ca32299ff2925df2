package jwtauth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync/atomic"
	"time"
)

const (
	// cacheSets and cacheWays bound the tokens in a cache: so many sets of so many entries.
	cacheSets = 4096
	cacheWays = 4
	// maxCached bounds what an entry holds, in bytes. The grant of a longer one is not cached.
	maxCached = 2 << 10
)

// cache has the grants of tokens that were valid lately: after an outage all clients present theirs
// again. It holds a keyed hash of each token, never the token. It is part of a policy, so new
// settings begin with an empty one, and an entry counts only while the keys are those that it was
// verified with. Any goroutine may use it; a set's entries are replaced one by one, without a lock.
type cache struct {
	key  [sha256.Size]byte // random
	sets [cacheSets][cacheWays]atomic.Pointer[cached]
}

// cached is a valid token. It is immutable.
type cached struct {
	sum   [sha256.Size]byte
	keys  *keySet // the public keys at that time; nil: none
	grant Grant   // its TTL does not count
	ends  time.Time
	has   bool // it has an end
	at    time.Time
}

func newCache() *cache {
	c := new(cache)
	_, _ = rand.Read(c.key[:]) // never fails
	return c
}

// sum returns the keyed hash of a token: without the key, no client can find tokens
// that share a set.
func (c *cache) sum(token string) (sum [sha256.Size]byte) {
	h := hmac.New(sha256.New, c.key[:])
	h.Write([]byte(token))
	h.Sum(sum[:0])
	return sum
}

func (c *cache) set(sum *[sha256.Size]byte) *[cacheWays]atomic.Pointer[cached] {
	return &c.sets[binary.LittleEndian.Uint32(sum[:])%cacheSets]
}

// find returns the grant of a token that is known to be valid.
func (c *cache) find(sum *[sha256.Size]byte, keys *keySet, now time.Time) (g Grant, ok bool) {
	set := c.set(sum)
	for i := range set {
		e := set[i].Load()
		if e == nil || e.sum != *sum {
			continue
		}
		if e.keys != keys {
			return Grant{}, false
		}
		if now.Before(e.at) {
			return Grant{}, false // the clock was set back: the token may not be valid yet
		}
		g = e.grant
		if e.has {
			if g.TTL = e.ends.Sub(now); g.TTL <= 0 {
				return Grant{}, false
			}
		}
		return g, true
	}
	return Grant{}, false
}

// add stores a grant in the place of one that does not count any more, or of the oldest in its set.
func (c *cache) add(sum *[sha256.Size]byte, keys *keySet, g Grant, now time.Time) {
	if len(g.Token)+len(g.TID) > maxCached {
		return
	}
	e := &cached{sum: *sum, keys: keys, grant: g, at: now}
	if e.has = g.TTL > 0; e.has {
		e.ends = now.Add(g.TTL)
	}
	e.grant.TTL = 0
	set := c.set(sum)
	place, oldest := 0, now
	for i := range set {
		old := set[i].Load()
		if old == nil || old.sum == *sum || old.keys != keys || old.has && !old.ends.After(now) {
			place = i
			break
		}
		if old.at.Before(oldest) {
			place, oldest = i, old.at
		}
	}
	set[place].Store(e)
}

// check is verify for a token that may have been verified before. hit reports that it was.
func (p *policy) check(token string, wall func() time.Time) (g Grant, o Outcome, id string, hit bool) {
	if len(token) > MaxToken {
		return Grant{}, Malformed, "", false
	}
	var keys *keySet
	if p.keys != nil {
		// If they change during the verification, the entry does not count.
		keys = p.keys.current.Load()
	}
	sum := p.cache.sum(token)
	now := wall()
	if g, hit = p.cache.find(&sum, keys, now); hit {
		return g, Valid, "", true
	}
	if g, o, id = p.verify(token, wall); o == Valid {
		p.cache.add(&sum, keys, g, now)
	}
	return g, o, id, false
}
