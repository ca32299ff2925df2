// Package intern returns short texts that come again and again, such as the resource IDs that all
// clients subscribe to, as the same string: without an allocation each time, and clients that keep
// them share their memory. It never grows: a new text takes the place of an older one.
package intern

import "hash/maphash"

const (
	places  = 512 // a power of two
	longest = 64  // bytes of a text that is kept
)

// Cache has the texts that came last, at most 32 KiB of them. The zero value is empty. It belongs
// to one owner.
type Cache struct{ recent [places]string }

var seed = maphash.MakeSeed()

// Of returns b as a string. c may be nil: then the string is always a new one.
func (c *Cache) Of(b []byte) string {
	if c == nil || len(b) <= 1 || len(b) > longest { // Go has strings of single bytes
		return string(b)
	}
	p := &c.recent[maphash.Bytes(seed, b)%places]
	if *p != string(b) {
		*p = string(b)
	}
	return *p
}
