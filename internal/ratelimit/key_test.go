package ratelimit

import (
	"net/netip"
	"testing"
)

func TestKeyOf(t *testing.T) {
	for _, same := range [][]string{
		{"192.0.2.1", "::ffff:192.0.2.1", "64:ff9b::192.0.2.1", "64:ff9b::c000:201"},
		{"192.0.2.2"},
		{"0.0.0.0", "::ffff:0.0.0.0"},
		{"2001:db8:1:2::", "2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff"},
		{"2001:db8:1:3::1"},
		{"::1", "::2", "::"},
		{"fe80::1", "fe80::1%eth0", "fe80::2%eth1"},
		{"64:ff9b:1::192.0.2.1", "64:ff9b:1::192.0.2.9"}, // not the prefix
	} {
		for _, text := range same {
			k := KeyOf(netip.MustParseAddr(text))
			if want := KeyOf(netip.MustParseAddr(same[0])); k != want || k == 0 {
				t.Errorf("%s has key %x, %s %x", text, k, same[0], want)
			}
		}
	}
	if k := KeyOf(netip.Addr{}); k != 0 {
		t.Errorf("no address has key %x", k)
	}
}

// FuzzKeyOf: IPv4 addresses have keys of their own, IPv6 addresses that of their /64.
func FuzzKeyOf(f *testing.F) {
	f.Add([]byte{192, 0, 2, 1}, []byte{192, 0, 2, 2})
	f.Add(netip.MustParseAddr("2001:db8::1").AsSlice(), netip.MustParseAddr("2001:db8::2").AsSlice())
	f.Add(netip.MustParseAddr("64:ff9b::c000:201").AsSlice(), []byte{192, 0, 2, 1})
	f.Add(netip.MustParseAddr("::1").AsSlice(), netip.MustParseAddr("0:ffff:c000:201::").AsSlice())
	f.Fuzz(func(t *testing.T, x, y []byte) {
		a, ok := netip.AddrFromSlice(x)
		b, also := netip.AddrFromSlice(y)
		if !ok || !also {
			return
		}
		if KeyOf(a) == 0 || KeyOf(a) != KeyOf(a.Unmap()) {
			t.Fatalf("%v has key %x, unmapped %x", a, KeyOf(a), KeyOf(a.Unmap()))
		}
		if got, want := KeyOf(a) == KeyOf(b), limitedAs(a) == limitedAs(b); got != want {
			t.Fatalf("%v and %v have keys %x and %x", a, b, KeyOf(a), KeyOf(b))
		}
	})
}

// limitedAs returns the network that an address is limited with. Keys of networks that are assigned
// to no one may be those of others.
func limitedAs(a netip.Addr) netip.Prefix {
	v4 := func(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, 32) }
	switch a = a.Unmap(); {
	case a.Is4():
		return v4(a)
	case nat64.Contains(a):
		b := a.As16()
		return v4(netip.AddrFrom4([4]byte(b[12:])))
	}
	b := a.As16()
	switch p, _ := a.Prefix(64); {
	case netip.MustParsePrefix("0:ffff::/32").Contains(a):
		return v4(netip.AddrFrom4([4]byte(b[4:8])))
	case p == netip.MustParsePrefix("0:0:0:1::/64"):
		return netip.MustParsePrefix("::/64")
	default:
		return p
	}
}

func TestNetworks(t *testing.T) {
	n := Networks{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fe80::/10")}
	for text, want := range map[string]bool{
		"10.1.2.3": true, "::ffff:10.1.2.3": true, "11.0.0.1": false, "fe80::1%eth0": true, "2001:db8::1": false,
	} {
		if got := n.Contain(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
	if Networks(nil).Contain(netip.Addr{}) || n.Contain(netip.Addr{}) {
		t.Error("no address is in a network")
	}
}
