// Package intern returns short texts that come again and again, such as the resource IDs that all
// clients subscribe to, as the same string: without an allocation each time, and clients that keep
// them share their memory. It never grows: a new text takes the place of an older one.
package intern

import "hash/maphash"

const (
	sets    = 128 // a power of two
	ways    = 4   // texts of a set: so few that are in use at the same time displace each other
	longest = 64  // bytes of a text that is kept
)

// Cache has texts that came last, at most 32 KiB of them. The zero value is empty. It belongs to
// one owner.
type Cache struct{ recent [sets][ways]string }

var seed = maphash.MakeSeed()

// Of returns b as a string. c may be nil: then the string is always a new one.
func (c *Cache) Of(b []byte) string {
	if c == nil || len(b) <= 1 || len(b) > longest { // Go has strings of single bytes
		return string(b)
	}
	set := &c.recent[maphash.Bytes(seed, b)%sets]
	for _, s := range set {
		if s == string(b) {
			return s
		}
	}
	copy(set[1:], set[:ways-1]) // the oldest goes
	set[0] = string(b)
	return set[0]
}
