package proxyproto

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// binaryHeader makes a header of version 2: its 13th and 14th byte and what follows
// its length.
func binaryHeader(command, family byte, rest ...string) string {
	tail := strings.Join(rest, "")
	return signature + string([]byte{command, family, byte(len(tail) >> 8), byte(len(tail))}) + tail
}

// at reads an address and port.
func at(s string) netip.AddrPort {
	if s == "" {
		return netip.AddrPort{}
	}
	return netip.MustParseAddrPort(s)
}

const (
	v4Block = "\xc0\xa8\x00\x01" + "\xc0\xa8\x00\x0b" + "\xdc\x04" + "\x01\xbb" // 192.168.0.1:56324 to 192.168.0.11:443
	v6Block = "\x20\x01\x0d\xb8" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x01" +
		"\x20\x01\x0d\xb8" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x02" + "\xff\xff" + "\x00\x00"
	mappedBlock = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x01\x02\x03\x04" +
		"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x05\x06\x07\x08" + "\x00\x01" + "\x00\x02"
	// A PP2_TYPE_NOOP of one byte, and one that claims more than there is.
	noop, torn = "\x04\x00\x01x", "\x04\xff\xffx"
)

var unixBlock = "/run/client" + strings.Repeat("\x00", 97) + "/run/server" + strings.Repeat("\x00", 97)

// The valid forms of sections 2.1 and 2.2 and what they mean.
var valid = []struct {
	name, in            string
	version             int
	own, datagram       bool
	source, destination string
}{
	{"the specification's example", "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", 1, false, false, "192.168.0.1:56324", "192.168.0.11:443"},
	{"the longest of IPv4", "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", 1, false, false, "255.255.255.255:65535", "255.255.255.255:65535"},
	{"the longest of IPv6", "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n", 1, false, false,
		"[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"},
	{"shortened IPv6, both cases", "PROXY TCP6 2001:DB8::1 ::1 0 1\r\n", 1, false, false, "[2001:db8::1]:0", "[::1]:1"},
	{"IPv4 in IPv6 form", "PROXY TCP6 ::ffff:1.2.3.4 ::ffff:506:708 1 2\r\n", 1, false, false, "1.2.3.4:1", "5.6.7.8:2"},
	{"unknown", "PROXY UNKNOWN\r\n", 1, true, false, "", ""},
	{"unknown with more", "PROXY UNKNOWN what ever\r\n", 1, true, false, "", ""},
	{"the longest", "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n", 1, true, false, "", ""},

	{"local", binaryHeader(0x20, 0x00), 2, true, false, "", ""},
	{"local with addresses", binaryHeader(0x20, 0x11, v4Block), 2, true, false, "", ""},
	{"local of any family", binaryHeader(0x20, 0xff, "x"), 2, true, false, "", ""},
	{"unspecified", binaryHeader(0x21, 0x00), 2, true, false, "", ""},
	{"unspecified with more", binaryHeader(0x21, 0x00, v4Block, noop), 2, true, false, "", ""},
	{"unspecified family", binaryHeader(0x21, 0x01, "abc"), 2, true, false, "", ""},
	{"unspecified transport", binaryHeader(0x21, 0x10, v4Block), 2, true, false, "", ""},
	{"TCP over IPv4", binaryHeader(0x21, 0x11, v4Block), 2, false, false, "192.168.0.1:56324", "192.168.0.11:443"},
	{"UDP over IPv4", binaryHeader(0x21, 0x12, v4Block), 2, false, true, "192.168.0.1:56324", "192.168.0.11:443"},
	{"TCP over IPv6", binaryHeader(0x21, 0x21, v6Block), 2, false, false, "[2001:db8::1]:65535", "[2001:db8::2]:0"},
	{"UDP over IPv6", binaryHeader(0x21, 0x22, v6Block), 2, false, true, "[2001:db8::1]:65535", "[2001:db8::2]:0"},
	{"mapped IPv4, binary", binaryHeader(0x21, 0x21, mappedBlock), 2, false, false, "1.2.3.4:1", "5.6.7.8:2"},
	{"Unix stream", binaryHeader(0x21, 0x31, unixBlock), 2, false, false, "", ""},
	{"Unix datagram", binaryHeader(0x21, 0x32, unixBlock), 2, false, true, "", ""},
	{"with TLV", binaryHeader(0x21, 0x11, v4Block, noop, noop), 2, false, false, "192.168.0.1:56324", "192.168.0.11:443"},
	{"with a torn TLV", binaryHeader(0x21, 0x11, v4Block, torn), 2, false, false, "192.168.0.1:56324", "192.168.0.11:443"},
	{"as large as the limit", binaryHeader(0x21, 0x11, v4Block, strings.Repeat("t", DefaultLimit-fixed-12)), 2, false, false, "192.168.0.1:56324", "192.168.0.11:443"},
}

func TestValid(t *testing.T) {
	for _, tt := range valid {
		t.Run(tt.name, func(t *testing.T) {
			buf := []byte(tt.in + "GET / HTTP/1.1\r\n")
			var h Header
			n, err := Parse(buf, 0, &h)
			if n != len(tt.in) || err != nil {
				t.Fatalf("%d, %v; want %d bytes", n, err, len(tt.in))
			}
			if h.Version != tt.version || h.Own != tt.own || h.Datagram != tt.datagram || h.Source != at(tt.source) || h.Destination != at(tt.destination) {
				t.Errorf("%+v", h)
			}
			if unix := strings.HasPrefix(tt.name, "Unix"); (h.SourcePath != nil) != unix {
				t.Errorf("paths %q, %q", h.SourcePath, h.DestinationPath)
			} else if unix && (string(h.SourcePath) != "/run/client" || string(h.DestinationPath) != "/run/server") {
				t.Errorf("paths %q, %q", h.SourcePath, h.DestinationPath)
			}
		})
	}
}

// However a header is cut into pieces, it is incomplete until its last byte, and
// then what it was in one piece.
func TestByteByByte(t *testing.T) {
	for _, tt := range valid {
		var h Header
		for i := range len(tt.in) {
			if n, err := Parse([]byte(tt.in[:i]), 0, &h); n != 0 || err != nil {
				t.Errorf("%s: after %d of %d bytes: %d, %v", tt.name, i, len(tt.in), n, err)
				break
			}
		}
	}
}

// Each row is a fault, with the number of bytes after which it shows: before, the
// header must count as incomplete, from then on it must be refused, whatever
// follows.
func TestInvalid(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		shows    int
		want     error
	}{
		{"HTTP", "GET / HTTP/1.1\r\n", 1, ErrNoHeader},
		{"HTTP with a method like it", "PROPFIND / HTTP/1.1\r\n", 4, ErrNoHeader},
		{"TLS", "\x16\x03\x01\x02\x00", 1, ErrNoHeader},
		{"no space", "PROXY\r\n", 6, ErrNoHeader},
		{"small letters", "proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n", 1, ErrNoHeader},
		{"blank lines before HTTP", "\r\n\r\nGET / HTTP/1.1\r\n", 5, ErrNoHeader},

		{"LF only", "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n", 31, ErrLineEnd},
		{"CR only", "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\rGET / HTTP/1.1\r\n", 32, ErrLineEnd},
		{"two CR", "PROXY UNKNOWN\r\r\n", 15, ErrLineEnd},
		{"no line end", "PROXY UNKNOWN " + strings.Repeat("x", 200), MaxLine, ErrLineTooLong},
		{"line end one byte late", "PROXY UNKNOWN " + strings.Repeat("x", MaxLine-15) + "\r\n", MaxLine, ErrLineTooLong},
		{"no family", "PROXY \r\n", 8, ErrLine},
		{"other family", "PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n", 32, ErrLine},
		{"longer family", "PROXY TCP44 1.1.1.1 2.2.2.2 1 2\r\n", 33, ErrLine},
		{"longer unknown", "PROXY UNKNOWNS\r\n", 16, ErrLine},
		{"nothing but a family", "PROXY TCP4\r\n", 12, ErrLine},
		{"a port missing", "PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n", 30, ErrLine},
		{"a word too many", "PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n", 34, ErrLine},
		{"space at the end", "PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n", 33, ErrLine},
		{"two spaces", "PROXY TCP4  1.1.1.1 2.2.2.2 1 2\r\n", 33, ErrLine},
		{"two spaces, fewer words", "PROXY TCP4 1.1.1.1  2.2.2.2 1\r\n", 31, ErrAddress},
		{"a tab", "PROXY TCP4\t1.1.1.1 2.2.2.2 1 2\r\n", 32, ErrLine},
		{"IPv6 as TCP4", "PROXY TCP4 ::1 ::1 1 2\r\n", 24, ErrAddress},
		{"IPv4 as TCP6", "PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n", 32, ErrAddress},
		{"zeros in front", "PROXY TCP4 01.1.1.1 2.2.2.2 1 2\r\n", 33, ErrAddress},
		{"a byte too large", "PROXY TCP4 1.1.1.256 2.2.2.2 1 2\r\n", 34, ErrAddress},
		{"a zone", "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", 33, ErrAddress},
		{"a name", "PROXY TCP4 1.1.1.1 localhost 1 2\r\n", 34, ErrAddress},
		{"a port too large", "PROXY TCP4 1.1.1.1 2.2.2.2 65536 2\r\n", 36, ErrPort},
		{"a port with a zero in front", "PROXY TCP4 1.1.1.1 2.2.2.2 1 02\r\n", 33, ErrPort},
		{"a port with a sign", "PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n", 33, ErrPort},
		{"an underscore in a port", "PROXY TCP4 1.1.1.1 2.2.2.2 1_0 2\r\n", 34, ErrPort},

		{"version 1 in binary", binaryHeader(0x11, 0x11, v4Block), 13, ErrVersion},
		{"version 3", binaryHeader(0x31, 0x11, v4Block), 13, ErrVersion},
		{"command 2", binaryHeader(0x22, 0x11, v4Block), 13, ErrCommand},
		{"command 15", binaryHeader(0x2f, 0x11, v4Block), 13, ErrCommand},
		{"family 4", binaryHeader(0x21, 0x41, unixBlock), 14, ErrFamily},
		{"transport 3", binaryHeader(0x21, 0x13, v4Block), 14, ErrFamily},
		{"unspecified family, unknown transport", binaryHeader(0x21, 0x03), 14, ErrFamily},
		{"no room for IPv4", binaryHeader(0x21, 0x11, v4Block[1:]), 16, ErrLength},
		{"no room for IPv6", binaryHeader(0x21, 0x21, v6Block[1:]), 16, ErrLength},
		{"no room for Unix", binaryHeader(0x21, 0x31, unixBlock[1:]), 16, ErrLength},
		{"beyond the limit", binaryHeader(0x21, 0x11, v4Block, strings.Repeat("t", DefaultLimit-fixed-11)), 16, ErrTooLarge},
		{"local, beyond the limit", binaryHeader(0x20, 0, strings.Repeat("t", 1<<16-1)), 16, ErrTooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := []byte(tt.in)
			var h Header
			for i := range in {
				n, err := Parse(in[:i+1], 0, &h)
				var want error
				if i+1 >= tt.shows {
					want = tt.want
				}
				if n != 0 || !errors.Is(err, want) {
					t.Fatalf("after %d bytes: %d, %v; want %v", i+1, n, err, want)
				}
			}
			if n, err := Parse(append(in, v4Block...), 0, &h); n != 0 || !errors.Is(err, tt.want) {
				t.Errorf("with more behind it: %d, %v; want %v", n, err, tt.want)
			}
		})
	}
}

func TestLimit(t *testing.T) {
	var h Header
	in := []byte(binaryHeader(0x21, 0x31, unixBlock))
	if n, err := Parse(in, len(in), &h); n != len(in) || err != nil {
		t.Errorf("at the limit: %d, %v", n, err)
	}
	if _, err := Parse(in, len(in)-1, &h); !errors.Is(err, ErrTooLarge) {
		t.Errorf("beyond the limit: %v", err)
	}
	// Version 1 and addresses of version 2 fit whatever the limit.
	if n, err := Parse([]byte(binaryHeader(0x21, 0x21, v6Block)), 1, &h); n != fixed+36 || err != nil {
		t.Errorf("below the least limit: %d, %v", n, err)
	}
}

// A Header that is used again holds nothing of the header before.
func TestReuse(t *testing.T) {
	var h Header
	for _, in := range []string{binaryHeader(0x21, 0x32, unixBlock), binaryHeader(0x21, 0x12, v4Block), "PROXY UNKNOWN\r\n"} {
		if n, err := Parse([]byte(in), 0, &h); n == 0 || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
	}
	if h.Version != 1 || !h.Own || h.Datagram || h.Source.IsValid() || h.Destination.IsValid() || h.SourcePath != nil || h.DestinationPath != nil {
		t.Errorf("%+v", h)
	}
}

func TestAllocFree(t *testing.T) {
	var h Header
	for _, in := range []string{binaryHeader(0x21, 0x11, v4Block, noop), binaryHeader(0x21, 0x21, v6Block), binaryHeader(0x21, 0x31, unixBlock)} {
		buf := []byte(in)
		if a := testing.AllocsPerRun(100, func() {
			if n, err := Parse(buf, 0, &h); n == 0 || err != nil {
				t.Fatal(n, err)
			}
		}); a != 0 {
			t.Errorf("%q: %v allocations", in, a)
		}
	}
}

// FuzzParse holds what must be true of any input: lengths within it and the
// limit, the same answer with more behind a complete or refused header, no answer
// for any piece of one that is complete.
func FuzzParse(f *testing.F) {
	for _, tt := range valid {
		f.Add([]byte(tt.in), 0)
	}
	f.Add([]byte("PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n"), 200)
	f.Add([]byte(binaryHeader(0x21, 0x41)), 20)
	f.Fuzz(func(t *testing.T, in []byte, limit int) {
		var h, again Header
		n, err := Parse(in, limit, &h)
		switch {
		case n < 0 || n > len(in) || n > 0 && err != nil:
			t.Fatalf("%d of %d, %v", n, len(in), err)
		case n == 0 && err == nil:
			most := limit
			if most <= 0 {
				most = DefaultLimit
			}
			if len(in) >= max(most, MaxLine) {
				t.Fatalf("asks for more than %d bytes", len(in))
			}
			return
		}
		m, errMore := Parse(append(bytes.Clone(in), "PROXY\r\n\x00"...), limit, &again)
		if m != n || !errors.Is(errMore, err) {
			t.Fatalf("with more behind it: %d, %v; before %d, %v", m, errMore, n, err)
		}
		if n == 0 {
			return
		}
		if again.Source != h.Source || again.Own != h.Own || !bytes.Equal(again.SourcePath, h.SourcePath) {
			t.Fatalf("with more behind it %+v, before %+v", again, h)
		}
		if !h.Own && !h.Source.IsValid() && h.SourcePath == nil {
			t.Fatalf("nobody's connection: %+v", h)
		}
		if h.Source.Addr().Is4In6() || h.Source.Addr().Zone() != "" {
			t.Fatalf("source %v", h.Source)
		}
		for _, cut := range []int{n - 1, n / 2, 1} {
			if m, err := Parse(in[:cut], limit, &again); m != 0 || err != nil {
				t.Fatalf("%d of %d bytes: %d, %v", cut, n, m, err)
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	for _, tt := range valid {
		if tt.name != "the specification's example" && tt.name != "TCP over IPv6" {
			continue
		}
		b.Run(tt.name, func(b *testing.B) {
			buf := []byte(tt.in)
			var h Header
			b.ReportAllocs()
			for b.Loop() {
				if n, _ := Parse(buf, 0, &h); n == 0 {
					b.Fatal("incomplete")
				}
			}
		})
	}
}
