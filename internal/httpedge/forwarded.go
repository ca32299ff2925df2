// Own code: realclientip-go v1.0.0 believes any peer, reads one header, drops ports, and splits
// Forwarded inside quotes, so for=1.2.3.4;host="x,for=6.6.6.6;y" lets a client choose its address.
// It needs an http.Header and parses all hops; a loop has a wsproto.Head, and bounds them.

package httpedge

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"

	"sluice/internal/ratelimit"
	"sluice/wsproto"
)

const (
	// maxForwardedHops is how many hops of a header are read, from the right: earlier ones are
	// ignored.
	maxForwardedHops = 32
	// maxForwardedLines is how many lines of a header are read, from the last one: a proxy appends
	// to the last line, or adds one.
	maxForwardedLines = maxForwardedHops

	headerForwarded     = "Forwarded"
	headerXForwardedFor = "X-Forwarded-For"
)

// forwarding finds the client's address in Forwarded (RFC 7239) or X-Forwarded-For, for requests
// from proxies in trusted networks (trustForwardedFrom). Any goroutine may use it.
//
// Each proxy appends the address of its peer at the right end. Hops further left came with the
// request, and a client can forge them. So the hops are walked from the right for as long as they
// are trusted, and the first untrusted one is the client. A malformed or obfuscated hop ends the
// walk: then the hop before it counts.
//
// A proxy that maintains one of the headers passes the other on as the client forged it. If both
// are present, their walks must therefore end at the same address. Otherwise both are ignored.
type forwarding struct {
	trusted atomic.Pointer[ratelimit.Networks] // replaced as a whole by Edge.Adjust; nil: none
	log     *slog.Logger
	once    sync.Once // for the warning
}

// networks returns the trusted networks.
func (f *forwarding) networks() ratelimit.Networks {
	if trusted := f.trusted.Load(); trusted != nil {
		return *trusted
	}
	return nil
}

// ofHead returns the client's address for a request on an event loop, with the port if that is
// known. It is peer, the host:port at the other end of the connection, unless that is a trusted
// proxy.
func (f *forwarding) ofHead(peer string, h *wsproto.Head) string {
	from, ok := f.proxy(peer)
	if !ok {
		return peer
	}
	var standard, customary hops
	h.Each(func(name, value []byte) {
		switch {
		case bytes.EqualFold(name, []byte("forwarded")):
			standard.add(string(value))
		case bytes.EqualFold(name, []byte("x-forwarded-for")):
			customary.add(string(value))
		}
	})
	return f.client(peer, from, &standard, &customary)
}

// ofHeader is ofHead for a request on net/http.
func (f *forwarding) ofHeader(peer string, h http.Header) string {
	from, ok := f.proxy(peer)
	if !ok {
		return peer
	}
	var standard, customary hops
	for _, v := range h[headerForwarded] {
		standard.add(v)
	}
	for _, v := range h[headerXForwardedFor] {
		customary.add(v)
	}
	return f.client(peer, from, &standard, &customary)
}

// proxy parses peer, and reports whether it is a trusted proxy.
func (f *forwarding) proxy(peer string) (netip.AddrPort, bool) {
	trusted := f.networks()
	if len(trusted) == 0 {
		return netip.AddrPort{}, false
	}
	from, err := netip.ParseAddrPort(peer)
	return from, err == nil && trusted.Contain(from.Addr())
}

// client walks the hops of both headers from the proxy at from.
func (f *forwarding) client(peer string, from netip.AddrPort, standard, customary *hops) string {
	found := from
	switch {
	case standard.lines > 0 && customary.lines > 0:
		found = f.walk(from, standard, forwardedFor)
		other := f.walk(from, customary, whole)
		if found.Addr() != other.Addr() {
			f.once.Do(func() {
				f.log.Warn("Forwarded and X-Forwarded-For of a proxy's request disagree: both ignored; let the proxy remove the one that it does not set",
					"remote", peer)
			})
			return peer
		}
		if found.Port() == 0 {
			found = other
		}
	case standard.lines > 0:
		found = f.walk(from, standard, forwardedFor)
	case customary.lines > 0:
		found = f.walk(from, customary, whole)
	}
	switch {
	case found == from:
		return peer
	case found.Port() == 0:
		return found.Addr().String()
	}
	return found.String()
}

// walk follows the hops from the right until one that is untrusted or malformed. node extracts a
// hop's address from its element.
func (f *forwarding) walk(from netip.AddrPort, h *hops, node func(element string) (string, bool)) netip.AddrPort {
	trusted := f.networks()
	for range maxForwardedHops {
		element, ok := h.last()
		if !ok {
			break
		}
		text, ok := node(element)
		if !ok {
			break
		}
		hop, ok := parseNode(text)
		if !ok {
			break
		}
		from = hop
		if !trusted.Contain(hop.Addr()) {
			break
		}
	}
	return from
}

// hops is the list of a header's elements, popped from its right end. The zero value is an empty
// list.
type hops struct {
	line  [maxForwardedLines]string // a ring of the last lines
	next  int                       // where the ring's next line goes
	lines int                       // left in the ring
}

// add appends a line of the header.
func (h *hops) add(line string) {
	h.line[h.next] = line
	h.next = (h.next + 1) % len(h.line)
	h.lines = min(h.lines+1, len(h.line))
}

// last pops the rightmost element, skipping empty ones (RFC 9110 section 5.6.1). Commas in quotes
// do not separate. Since it scans from the right, nothing further left, an unpaired quote for
// example, can change where the element begins.
func (h *hops) last() (string, bool) {
	for h.lines > 0 {
		at := (h.next + len(h.line) - 1) % len(h.line)
		line := h.line[at]
		comma := lastComma(line)
		element := strings.Trim(line[comma+1:], " \t")
		if comma >= 0 {
			h.line[at] = line[:comma]
		} else {
			h.line[at] = ""
			h.next = at
			h.lines--
		}
		if element != "" {
			return element, true
		}
	}
	return "", false
}

// lastComma returns the index of the last comma in s that is not in quotes, or -1.
func lastComma(s string) int {
	quoted := false
	for i := len(s) - 1; i >= 0; i-- {
		switch s[i] {
		case ',':
			if !quoted {
				return i
			}
		case '"':
			if !quoted || !escaped(s, i) {
				quoted = !quoted
			}
		}
	}
	return -1
}

// escaped reports whether an odd number of backslashes precedes s[i].
func escaped(s string, i int) bool {
	n := 0
	for i--; i >= 0 && s[i] == '\\'; i-- {
		n++
	}
	return n%2 == 1
}

// whole returns the node of an element of X-Forwarded-For: the element itself.
func whole(element string) (string, bool) { return element, true }

// forwardedFor returns the value of the parameter "for" of an element of Forwarded, unquoted (RFC
// 7239 section 4). It returns false if there is none, if there is more than one, and if the element
// is malformed.
func forwardedFor(element string) (node string, found bool) {
	for rest := element; rest != ""; {
		if rest = strings.TrimLeft(rest, " \t;"); rest == "" {
			break
		}
		name, value, ok := strings.Cut(rest, "=")
		if !ok || name == "" || strings.ContainsAny(name, " \t\",;") {
			return "", false
		}
		if value, rest, ok = cutValue(value); !ok {
			return "", false
		}
		if strings.EqualFold(name, "for") {
			if found {
				return "", false
			}
			node, found = value, true
		}
	}
	return node, found
}

// cutValue cuts a parameter's value, a token or a quoted string, off s, and the semicolon that may
// follow it.
func cutValue(s string) (value, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		value, rest, _ = strings.Cut(s, ";")
		value = strings.TrimRight(value, " \t")
		return value, rest, value != "" && !strings.ContainsAny(value, " \t\",")
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			if i++; i == len(s) {
				return "", "", false
			}
		case '"':
			rest = strings.TrimLeft(s[i+1:], " \t")
			if rest != "" && rest[0] != ';' {
				return "", "", false
			}
			return b.String(), strings.TrimPrefix(rest, ";"), true
		}
		b.WriteByte(s[i])
	}
	return "", "", false
}

// parseNode parses a node (RFC 7239 section 6): an address with or without a port, IPv6 in brackets
// or, as is common, without. An obfuscated port ("_x") or none is 0. It returns false for "unknown"
// and for an obfuscated or malformed node.
func parseNode(s string) (netip.AddrPort, bool) {
	host, port := s, ""
	if rest, ok := strings.CutPrefix(s, "["); ok {
		var closed bool
		if host, port, closed = strings.Cut(rest, "]"); !closed || !strings.Contains(host, ":") {
			return netip.AddrPort{}, false
		}
		if port, ok = strings.CutPrefix(port, ":"); !ok && port != "" || ok && port == "" {
			return netip.AddrPort{}, false
		}
	} else if strings.Count(s, ":") == 1 {
		if host, port, _ = strings.Cut(s, ":"); port == "" {
			return netip.AddrPort{}, false
		}
	}
	ip, err := netip.ParseAddr(host)
	if err != nil || ip.Zone() != "" {
		return netip.AddrPort{}, false
	}
	number := 0
	if !strings.HasPrefix(port, "_") {
		for _, c := range []byte(port) {
			number = number*10 + int(c-'0')
			if c < '0' || c > '9' || number > 65535 {
				return netip.AddrPort{}, false
			}
		}
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(number)), true
}
