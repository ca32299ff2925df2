package proxyproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"strconv"
)

const (
	// DefaultLimit bounds a header of version 2, in bytes, when no limit is
	// given. Addresses take at most 232; what proxies add (the TLS session, a
	// client certificate's name, the cloud's endpoint) has ample room.
	DefaultLimit = 4 << 10
	// MaxLine is the length in bytes of the longest header of version 1, line
	// end included (PROXY protocol section 2.1). No limit can be below it.
	MaxLine = 107
)

// The ways in which a header can be wrong. None can be mended by more bytes:
// the connection is to be closed. Sections are those of the PROXY protocol's
// specification.
var (
	ErrNoHeader    = errors.New("proxyproto: no PROXY protocol header")                      // 2.2: neither version's first bytes
	ErrLineTooLong = errors.New("proxyproto: no line end within the first 107 bytes")        // 2.1
	ErrLineEnd     = errors.New("proxyproto: line does not end in CR LF")                    // 2.1
	ErrLine        = errors.New("proxyproto: malformed line")                                // 2.1: words, their number, the spaces between
	ErrAddress     = errors.New("proxyproto: malformed address")                             // 2.1
	ErrPort        = errors.New("proxyproto: malformed port")                                // 2.1
	ErrVersion     = errors.New("proxyproto: unknown version")                               // 2.2: 13th byte
	ErrCommand     = errors.New("proxyproto: unknown command")                               // 2.2: 13th byte
	ErrFamily      = errors.New("proxyproto: unknown address family or transport")           // 2.2: 14th byte
	ErrLength      = errors.New("proxyproto: length has no room for the family's addresses") // 2.2: 15th and 16th byte
	ErrTooLarge    = errors.New("proxyproto: header is larger than the limit")
)

// Header is what a proxy said of a connection.
type Header struct {
	// Version is 1 or 2.
	Version int
	// Own is true if the connection's own addresses count: the proxy speaks for
	// itself, for example to check health (LOCAL), or does not know more
	// (UNKNOWN, unspecified family or transport). All that follows is zero then.
	Own bool
	// Datagram is true if the client spoke UDP, or a datagram socket, to the
	// proxy.
	Datagram bool
	// Source is the client, Destination what it connected to; both are invalid
	// for Unix sockets. An IPv4 address in IPv6 form is given as IPv4.
	Source, Destination netip.AddrPort
	// SourcePath and DestinationPath are those of Unix sockets, possibly empty,
	// without the zeros at their end. They point into the parsed buffer: valid as
	// long as that is neither changed nor reused.
	SourcePath, DestinationPath []byte
}

const (
	line = "PROXY "
	// signature begins a header of version 2 (section 2.2).
	signature = "\r\n\r\n\x00\r\nQUIT\n"
	// fixed is the length of what stands before the addresses in version 2.
	fixed = len(signature) + 4
	// unixPath is the room for one path of a Unix socket.
	unixPath = 108
)

// Parse reads the header at the beginning of buf into h and returns its length
// n in bytes; the connection's data follows. n == 0 without an error means that
// the header is not yet complete: call again with the same bytes and more. It
// never asks for more than limit bytes (0: DefaultLimit; less than MaxLine counts
// as MaxLine), and refuses as early as the bytes show what is wrong. h is
// meaningful only if n > 0. Version 2 takes no memory, version 1 a short string for
// each address.
//
// What stands behind the addresses in version 2 is skipped, its checksum
// included.
func Parse(buf []byte, limit int, h *Header) (n int, err error) {
	if limit <= 0 {
		limit = DefaultLimit
	}
	*h = Header{}
	switch {
	case agrees(buf, signature):
		return parseBinary(buf, max(limit, MaxLine), h)
	case agrees(buf, line):
		return parseLine(buf, h)
	}
	return 0, ErrNoHeader
}

// agrees reports whether buf begins like want, as far as it goes.
func agrees(buf []byte, want string) bool {
	n := min(len(buf), len(want))
	return string(buf[:n]) == want[:n]
}

// parseLine reads version 1 (section 2.1).
func parseLine(buf []byte, h *Header) (int, error) {
	in := buf[:min(len(buf), MaxLine)]
	end := bytes.IndexByte(in, '\n')
	text := in
	if end >= 0 {
		text = in[:end]
	}
	// A CR ends the line or, as the last byte so far, may be about to.
	if cr := bytes.IndexByte(text, '\r'); cr >= 0 && cr < len(text)-1 || end >= 0 && cr < 0 {
		return 0, ErrLineEnd
	}
	switch {
	case end >= 0:
	case len(buf) >= MaxLine:
		return 0, ErrLineTooLong
	default:
		return 0, nil
	}
	h.Version = 1
	family, rest, several := cutSpace(text[len(line) : end-1])
	switch string(family) {
	case "UNKNOWN": // whatever follows is to be ignored
		h.Own = true
		return end + 1, nil
	case "TCP4", "TCP6":
	default:
		return 0, ErrLine
	}
	if !several {
		return 0, ErrLine
	}
	if err := h.parseAddresses(rest, family[3] == '4'); err != nil {
		return 0, err
	}
	return end + 1, nil
}

// parseAddresses reads "source destination source-port destination-port".
func (h *Header) parseAddresses(rest []byte, v4 bool) error {
	var words [4][]byte
	for i := range words {
		var more bool
		words[i], rest, more = cutSpace(rest)
		if more != (i < len(words)-1) {
			return ErrLine
		}
	}
	source, err := parseIP(words[0], v4)
	if err != nil {
		return err
	}
	destination, err := parseIP(words[1], v4)
	if err != nil {
		return err
	}
	sourcePort, err := parsePort(words[2])
	if err != nil {
		return err
	}
	destinationPort, err := parsePort(words[3])
	if err != nil {
		return err
	}
	h.Source = netip.AddrPortFrom(source, sourcePort)
	h.Destination = netip.AddrPortFrom(destination, destinationPort)
	return nil
}

// cutSpace cuts b at its first space; more tells whether there was one.
func cutSpace(b []byte) (word, rest []byte, more bool) {
	if i := bytes.IndexByte(b, ' '); i >= 0 {
		return b[:i], b[i+1:], true
	}
	return b, nil, false
}

// parseIP reads an address of the family that the line names.
func parseIP(word []byte, v4 bool) (netip.Addr, error) {
	ip, err := netip.ParseAddr(string(word))
	if err != nil || ip.Is4() != v4 || ip.Zone() != "" {
		return ip, ErrAddress
	}
	return ip.Unmap(), nil
}

// parsePort reads 0 to 65535 without zeros in front, so that nobody takes it
// for octal.
func parsePort(word []byte) (uint16, error) {
	if len(word) == 0 || len(word) > 1 && word[0] == '0' || word[0] == '+' {
		return 0, ErrPort
	}
	port, err := strconv.ParseUint(string(word), 10, 16)
	if err != nil {
		return 0, ErrPort
	}
	return uint16(port), nil
}

// parseBinary reads version 2 (section 2.2).
func parseBinary(buf []byte, limit int, h *Header) (int, error) {
	h.Version = 2
	rest := buf[min(len(buf), len(signature)):]
	if len(rest) > 0 {
		if rest[0]>>4 != 2 {
			return 0, ErrVersion
		}
		if rest[0]&15 > 1 {
			return 0, ErrCommand
		}
		h.Own = rest[0]&15 == 0
	}
	var family, transport byte
	if len(rest) > 1 {
		family, transport = rest[1]>>4, rest[1]&15
		switch {
		case h.Own: // whatever they are: to be ignored
		case family > 3 || transport > 2:
			return 0, ErrFamily
		case family == 0 || transport == 0:
			h.Own = true
		}
	}
	if len(buf) < fixed {
		return 0, nil
	}
	length := int(binary.BigEndian.Uint16(rest[2:]))
	n := fixed + length
	address := 0
	if !h.Own {
		address = [...]int{1: 2*4 + 2*2, 2: 2*16 + 2*2, 3: 2 * unixPath}[family]
	}
	switch {
	case length < address:
		return 0, ErrLength
	case n > limit:
		return 0, ErrTooLarge
	case len(buf) < n:
		return 0, nil
	}
	if h.Own {
		return n, nil
	}
	h.Datagram = transport == 2
	h.readAddresses(buf[fixed:n], family)
	return n, nil
}

// readAddresses reads the addresses of a family from b, which has room for them.
func (h *Header) readAddresses(b []byte, family byte) {
	if family == 3 {
		h.SourcePath = untilZero(b[:unixPath:unixPath])
		h.DestinationPath = untilZero(b[unixPath : 2*unixPath : 2*unixPath])
		return
	}
	var source, destination netip.Addr
	if family == 1 {
		source, destination = netip.AddrFrom4([4]byte(b)), netip.AddrFrom4([4]byte(b[4:]))
		b = b[8:]
	} else {
		source, destination = netip.AddrFrom16([16]byte(b)).Unmap(), netip.AddrFrom16([16]byte(b[16:])).Unmap()
		b = b[32:]
	}
	h.Source = netip.AddrPortFrom(source, binary.BigEndian.Uint16(b))
	h.Destination = netip.AddrPortFrom(destination, binary.BigEndian.Uint16(b[2:]))
}

// untilZero cuts the zeros at the end of a path. A path that begins with a zero
// is one of Linux's abstract names and keeps it.
func untilZero(b []byte) []byte { return bytes.TrimRight(b, "\x00") }
