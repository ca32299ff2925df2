package proxyproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"strconv"
)

const (
	// MaxHeader is the longest accepted header in bytes. Addresses take at most 232 bytes; TLVs
	// (TLS session, client certificate name, cloud endpoint) have ample room.
	MaxHeader = 4 << 10
	// maxLine is the length in bytes of the longest version 1 header, CR LF included (PROXY
	// protocol section 2.1).
	maxLine = 107
)

// Parse errors. More bytes cannot fix any of them: the connection must be closed. Comments name the
// section of the PROXY protocol specification.
var (
	ErrNoHeader    = errors.New("proxyproto: no PROXY protocol header")                       // 2.2: neither version's first bytes
	ErrLineTooLong = errors.New("proxyproto: no line end within the first 107 bytes")         // 2.1
	ErrLineEnd     = errors.New("proxyproto: line does not end in CR LF")                     // 2.1
	ErrLine        = errors.New("proxyproto: malformed line")                                 // 2.1: fields, their number, the spaces between them
	ErrAddress     = errors.New("proxyproto: malformed address")                              // 2.1
	ErrPort        = errors.New("proxyproto: malformed port")                                 // 2.1
	ErrVersion     = errors.New("proxyproto: unknown version")                                // 2.2: 13th byte
	ErrCommand     = errors.New("proxyproto: unknown command")                                // 2.2: 13th byte
	ErrFamily      = errors.New("proxyproto: unknown address family or transport")            // 2.2: 14th byte
	ErrLength      = errors.New("proxyproto: length is too short for the family's addresses") // 2.2: 15th and 16th byte
	ErrTooLarge    = errors.New("proxyproto: header is larger than the limit")
)

// Header is what a proxy states about a connection. Only the client's address matters to the
// gateway: the destination, the transport and the paths of Unix sockets are validated and skipped.
type Header struct {
	// Local is set if the connection's own addresses count: the proxy speaks for itself, for
	// example in a health check (LOCAL), or does not know the client (UNKNOWN, or an unspecified
	// family or transport).
	Local bool
	// Source is the client's address; invalid if Local is set, and for Unix sockets. An IPv4-mapped
	// IPv6 address is returned as IPv4.
	Source netip.AddrPort
}

const (
	line = "PROXY "
	// signature starts a version 2 header (section 2.2).
	signature = "\r\n\r\n\x00\r\nQUIT\n"
	// fixed is the length of the part before the addresses in version 2.
	fixed = len(signature) + 4
	// unixPath is the size of one Unix socket path.
	unixPath = 108
)

// Parse parses the header at the start of buf into h and returns its length n in bytes; the
// connection's data follows. n == 0 without an error means that the header is incomplete: call
// again with the same bytes and more. Parse never asks for more than MaxHeader bytes, and rejects
// a header at the first byte that is wrong. h is valid only if n > 0. Parse does not retain buf.
// Version 2 does not allocate, version 1 allocates a short string per address.
//
// TLVs after the addresses of version 2 are skipped, the checksum included.
func Parse(buf []byte, h *Header) (n int, err error) {
	*h = Header{}
	switch {
	case hasPrefixSoFar(buf, signature):
		return parseBinary(buf, h)
	case hasPrefixSoFar(buf, line):
		return parseLine(buf, h)
	}
	return 0, ErrNoHeader
}

// hasPrefixSoFar reports whether buf starts with want, or is a prefix of it.
func hasPrefixSoFar(buf []byte, want string) bool {
	n := min(len(buf), len(want))
	return string(buf[:n]) == want[:n]
}

// parseLine parses version 1 (section 2.1).
func parseLine(buf []byte, h *Header) (int, error) {
	in := buf[:min(len(buf), maxLine)]
	end := bytes.IndexByte(in, '\n')
	text := in
	if end >= 0 {
		text = in[:end]
	}
	// A CR is valid only right before the LF, or as the last byte received so far.
	if cr := bytes.IndexByte(text, '\r'); cr >= 0 && cr < len(text)-1 || end >= 0 && cr < 0 {
		return 0, ErrLineEnd
	}
	switch {
	case end >= 0:
	case len(buf) >= maxLine:
		return 0, ErrLineTooLong
	default:
		return 0, nil
	}
	family, rest, several := cutSpace(text[len(line) : end-1])
	switch string(family) {
	case "UNKNOWN": // the rest of the line must be ignored
		h.Local = true
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

// parseAddresses parses "source destination source-port destination-port".
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
	if _, err := parseIP(words[1], v4); err != nil {
		return err
	}
	port, err := parsePort(words[2])
	if err != nil {
		return err
	}
	if _, err := parsePort(words[3]); err != nil {
		return err
	}
	h.Source = netip.AddrPortFrom(source, port)
	return nil
}

// cutSpace cuts b at its first space; more reports whether there was one.
func cutSpace(b []byte) (word, rest []byte, more bool) {
	if i := bytes.IndexByte(b, ' '); i >= 0 {
		return b[:i], b[i+1:], true
	}
	return b, nil, false
}

// parseIP parses an address of the family that the line names.
func parseIP(word []byte, v4 bool) (netip.Addr, error) {
	ip, err := netip.ParseAddr(string(word))
	if err != nil || ip.Is4() != v4 || ip.Zone() != "" {
		return ip, ErrAddress
	}
	return ip.Unmap(), nil
}

// parsePort parses 0 to 65535 without leading zeros, which other parsers take for octal.
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

// parseBinary parses version 2 (section 2.2).
func parseBinary(buf []byte, h *Header) (int, error) {
	rest := buf[min(len(buf), len(signature)):]
	if len(rest) > 0 {
		if rest[0]>>4 != 2 {
			return 0, ErrVersion
		}
		if rest[0]&15 > 1 {
			return 0, ErrCommand
		}
		h.Local = rest[0]&15 == 0
	}
	var family, transport byte
	if len(rest) > 1 {
		family, transport = rest[1]>>4, rest[1]&15
		switch {
		case h.Local: // both must be ignored
		case family > 3 || transport > 2:
			return 0, ErrFamily
		case family == 0 || transport == 0:
			h.Local = true
		}
	}
	if len(buf) < fixed {
		return 0, nil
	}
	length := int(binary.BigEndian.Uint16(rest[2:]))
	n := fixed + length
	address := 0
	if !h.Local {
		address = [...]int{1: 2*4 + 2*2, 2: 2*16 + 2*2, 3: 2 * unixPath}[family]
	}
	switch {
	case length < address:
		return 0, ErrLength
	case n > MaxHeader:
		return 0, ErrTooLarge
	case len(buf) < n:
		return 0, nil
	}
	if h.Local {
		return n, nil
	}
	h.Source = source(buf[fixed:n], family)
	return n, nil
}

// source returns the source address of a family from b, which is long enough for it.
func source(b []byte, family byte) netip.AddrPort {
	switch family {
	case 1: // source, destination, source port, destination port
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b)), binary.BigEndian.Uint16(b[8:]))
	case 2:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b)).Unmap(), binary.BigEndian.Uint16(b[32:]))
	}
	return netip.AddrPort{} // paths of Unix sockets
}
