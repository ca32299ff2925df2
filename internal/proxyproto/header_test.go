package proxyproto

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// binaryHeader returns a version 2 header: bytes 13 and 14, and what follows the length.
func binaryHeader(command, family byte, rest ...string) string {
	tail := strings.Join(rest, "")
	return signature + string([]byte{command, family, byte(len(tail) >> 8), byte(len(tail))}) + tail
}

// at parses an address and port; empty: the zero value.
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

// The valid forms of sections 2.1 and 2.2, with their meaning.
var valid = []struct {
	name, in string
	local    bool
	source   string
}{
	{"the specification's example", "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", false, "192.168.0.1:56324"},
	{"the longest of IPv4", "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", false, "255.255.255.255:65535"},
	{"the longest of IPv6", "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n", false,
		"[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"},
	{"shortened IPv6, both cases", "PROXY TCP6 2001:DB8::1 ::1 0 1\r\n", false, "[2001:db8::1]:0"},
	{"IPv4 in IPv6 form", "PROXY TCP6 ::ffff:1.2.3.4 ::ffff:506:708 1 2\r\n", false, "1.2.3.4:1"},
	{"unknown", "PROXY UNKNOWN\r\n", true, ""},
	{"unknown with more", "PROXY UNKNOWN what ever\r\n", true, ""},
	{"the longest", "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n", true, ""},

	{"local", binaryHeader(0x20, 0x00), true, ""},
	{"local with addresses", binaryHeader(0x20, 0x11, v4Block), true, ""},
	{"local of any family", binaryHeader(0x20, 0xff, "x"), true, ""},
	{"unspecified", binaryHeader(0x21, 0x00), true, ""},
	{"unspecified with more", binaryHeader(0x21, 0x00, v4Block, noop), true, ""},
	{"unspecified family", binaryHeader(0x21, 0x01, "abc"), true, ""},
	{"unspecified transport", binaryHeader(0x21, 0x10, v4Block), true, ""},
	{"TCP over IPv4", binaryHeader(0x21, 0x11, v4Block), false, "192.168.0.1:56324"},
	{"UDP over IPv4", binaryHeader(0x21, 0x12, v4Block), false, "192.168.0.1:56324"},
	{"TCP over IPv6", binaryHeader(0x21, 0x21, v6Block), false, "[2001:db8::1]:65535"},
	{"UDP over IPv6", binaryHeader(0x21, 0x22, v6Block), false, "[2001:db8::1]:65535"},
	{"mapped IPv4, binary", binaryHeader(0x21, 0x21, mappedBlock), false, "1.2.3.4:1"},
	{"Unix stream", binaryHeader(0x21, 0x31, unixBlock), false, ""},
	{"Unix datagram", binaryHeader(0x21, 0x32, unixBlock), false, ""},
	{"with TLV", binaryHeader(0x21, 0x11, v4Block, noop, noop), false, "192.168.0.1:56324"},
	{"with a torn TLV", binaryHeader(0x21, 0x11, v4Block, torn), false, "192.168.0.1:56324"},
	{"of the maximum length", binaryHeader(0x21, 0x11, v4Block, strings.Repeat("t", MaxHeader-fixed-12)), false, "192.168.0.1:56324"},
}

func TestValid(t *testing.T) {
	for _, tt := range valid {
		t.Run(tt.name, func(t *testing.T) {
			buf := []byte(tt.in + "GET / HTTP/1.1\r\n")
			var h Header
			n, err := Parse(buf, &h)
			if n != len(tt.in) || err != nil {
				t.Fatalf("%d, %v; want %d bytes", n, err, len(tt.in))
			}
			if h.Local != tt.local || h.Source != at(tt.source) {
				t.Errorf("%+v", h)
			}
		})
	}
}

// Each prefix of a valid header is incomplete.
func TestByteByByte(t *testing.T) {
	for _, tt := range valid {
		var h Header
		for i := range len(tt.in) {
			if n, err := Parse([]byte(tt.in[:i]), &h); n != 0 || err != nil {
				t.Errorf("%s: after %d of %d bytes: %d, %v", tt.name, i, len(tt.in), n, err)
				break
			}
		}
	}
}

// Each row is a malformed header, with the number of bytes after which the error shows. Shorter
// prefixes are incomplete; from then on the header is rejected, whatever follows.
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
		{"no line end", "PROXY UNKNOWN " + strings.Repeat("x", 200), maxLine, ErrLineTooLong},
		{"line end one byte late", "PROXY UNKNOWN " + strings.Repeat("x", maxLine-15) + "\r\n", maxLine, ErrLineTooLong},
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
		{"beyond the limit", binaryHeader(0x21, 0x11, v4Block, strings.Repeat("t", MaxHeader-fixed-11)), 16, ErrTooLarge},
		{"local, beyond the limit", binaryHeader(0x20, 0, strings.Repeat("t", 1<<16-1)), 16, ErrTooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := []byte(tt.in)
			var h Header
			for i := range in {
				n, err := Parse(in[:i+1], &h)
				var want error
				if i+1 >= tt.shows {
					want = tt.want
				}
				if n != 0 || !errors.Is(err, want) {
					t.Fatalf("after %d bytes: %d, %v; want %v", i+1, n, err, want)
				}
			}
			if n, err := Parse(append(in, v4Block...), &h); n != 0 || !errors.Is(err, tt.want) {
				t.Errorf("with more behind it: %d, %v; want %v", n, err, tt.want)
			}
		})
	}
}

// A reused Header keeps nothing of the previous one.
func TestReuse(t *testing.T) {
	var h Header
	for _, in := range []string{binaryHeader(0x21, 0x32, unixBlock), binaryHeader(0x21, 0x12, v4Block), "PROXY UNKNOWN\r\n"} {
		if n, err := Parse([]byte(in), &h); n == 0 || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
	}
	if !h.Local || h.Source.IsValid() {
		t.Errorf("%+v", h)
	}
}

func TestAllocFree(t *testing.T) {
	var h Header
	for _, in := range []string{binaryHeader(0x21, 0x11, v4Block, noop), binaryHeader(0x21, 0x21, v6Block), binaryHeader(0x21, 0x31, unixBlock)} {
		buf := []byte(in)
		if a := testing.AllocsPerRun(100, func() {
			if n, err := Parse(buf, &h); n == 0 || err != nil {
				t.Fatal(n, err)
			}
		}); a != 0 {
			t.Errorf("%q: %v allocations", in, a)
		}
	}
}

// FuzzParse checks for any input: lengths are within the input and the limit; data after a complete
// or rejected header does not change the result; each prefix of a complete header is incomplete.
func FuzzParse(f *testing.F) {
	for _, tt := range valid {
		f.Add([]byte(tt.in))
	}
	f.Add([]byte("PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n"))
	f.Add([]byte(binaryHeader(0x21, 0x41)))
	f.Fuzz(func(t *testing.T, in []byte) {
		var h, again Header
		n, err := Parse(in, &h)
		switch {
		case n < 0 || n > len(in) || n > 0 && err != nil:
			t.Fatalf("%d of %d, %v", n, len(in), err)
		case n == 0 && err == nil:
			if len(in) >= MaxHeader {
				t.Fatalf("asks for more than %d bytes", len(in))
			}
			return
		}
		m, errMore := Parse(append(bytes.Clone(in), "PROXY\r\n\x00"...), &again)
		if m != n || !errors.Is(errMore, err) {
			t.Fatalf("with more behind it: %d, %v; before %d, %v", m, errMore, n, err)
		}
		if n == 0 {
			return
		}
		if again != h {
			t.Fatalf("with more behind it %+v, before %+v", again, h)
		}
		if h.Local && h.Source.IsValid() {
			t.Fatalf("local with a source: %+v", h)
		}
		if h.Source.Addr().Is4In6() || h.Source.Addr().Zone() != "" {
			t.Fatalf("source %v", h.Source)
		}
		for _, cut := range []int{n - 1, n / 2, 1} {
			if m, err := Parse(in[:cut], &again); m != 0 || err != nil {
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
				if n, _ := Parse(buf, &h); n == 0 {
					b.Fatal("incomplete")
				}
			}
		})
	}
}
