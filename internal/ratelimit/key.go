package ratelimit

import (
	"encoding/binary"
	"net/netip"
)

// Key is what is limited as one address: an IPv4 address, or a network /64 of IPv6, of which a
// single client usually has all addresses (RFC 6177). Zero is none.
//
// It is the upper half of the IPv6 address. An IPv4 address has its key in 0:ffff::/32, which is
// not assigned to anyone (RFC 4291 §2.4).
type Key uint64

const keyIPv4 Key = 0xffff << 32

// nat64 is the prefix behind which translators put IPv4 clients (RFC 6052 §2.1): each has an
// address of its own in it, but all have the same /64.
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// KeyOf returns the key of an address, zero of one that is invalid. A zone does not matter.
func KeyOf(a netip.Addr) Key {
	a = a.Unmap()
	switch {
	case !a.IsValid():
		return 0
	case a.Is4():
		b := a.As4()
		return keyIPv4 | Key(binary.BigEndian.Uint32(b[:]))
	}
	b := a.As16()
	if nat64.Contains(a.WithZone("")) {
		return keyIPv4 | Key(binary.BigEndian.Uint32(b[12:]))
	}
	return max(Key(binary.BigEndian.Uint64(b[:])), 1) // ::1, for example
}

// Networks is a list of address ranges. It is immutable and safe for concurrent use.
type Networks []netip.Prefix

// Contain reports whether an address is in one of the networks. A zone does not matter, and an IPv4
// address may be mapped into IPv6.
func (n Networks) Contain(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, p := range n {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
