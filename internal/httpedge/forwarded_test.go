package httpedge

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"sluice/internal/config"
	"sluice/internal/ratelimit"
	"sluice/wsproto"
)

// newForwarding trusts 10.0.0.0/8, fd00::/8 and 192.0.2.7.
func newForwarding(t testing.TB, log *slog.Logger) *forwarding {
	t.Helper()
	trusted, err := config.ParseNetworks([]string{"10.0.0.0/8", "fd00::/8", "192.0.2.7"})
	if err != nil {
		t.Fatal(err)
	}
	f := &forwarding{log: log}
	list := ratelimit.Networks(trusted)
	f.trusted.Store(&list)
	return f
}

// remoteAddr returns the client's address for a request with these header lines. On a loop and on
// net/http it must be the same.
func remoteAddr(t testing.TB, f *forwarding, peer string, lines ...string) string {
	t.Helper()
	text := "GET / HTTP/1.1\r\nHost: h\r\n"
	header := http.Header{}
	for _, l := range lines {
		text += l + "\r\n"
		name, value, _ := strings.Cut(l, ":")
		header.Add(name, strings.Trim(value, " \t"))
	}
	var head wsproto.Head
	if n, err := wsproto.ParseHead([]byte(text+"\r\n"), 1<<20, &head); n == 0 || err != nil {
		t.Fatalf("%q: %d, %v", lines, n, err)
	}
	onLoop, onHTTP := f.ofHead(peer, &head), f.ofHeader(peer, header)
	if onLoop != onHTTP {
		t.Errorf("%q: %s on a loop, %s on net/http", lines, onLoop, onHTTP)
	}
	return onLoop
}

func TestForwarded(t *testing.T) {
	const proxy = "10.0.0.1:5555"
	f := newForwarding(t, slog.New(slog.DiscardHandler))
	for _, tt := range []struct {
		peer, want string
		lines      []string
	}{
		{proxy, proxy, nil},
		{proxy, proxy, []string{"X-Forwarded-Host: 1.2.3.4"}},

		// The headers of an untrusted peer are ignored.
		{"203.0.113.9:1", "203.0.113.9:1", []string{"X-Forwarded-For: 1.2.3.4", "Forwarded: for=1.2.3.4"}},
		{"[2001:db8::9]:1", "[2001:db8::9]:1", []string{"X-Forwarded-For: 1.2.3.4"}},
		{"192.0.2.8:1", "192.0.2.8:1", []string{"X-Forwarded-For: 1.2.3.4"}},
		{"", "", []string{"X-Forwarded-For: 1.2.3.4"}},
		{"/run/socket", "/run/socket", []string{"X-Forwarded-For: 1.2.3.4"}},

		// The forms of a trusted peer.
		{"192.0.2.7:1", "1.2.3.4", []string{"X-Forwarded-For: 1.2.3.4"}},
		{"[fd00::1]:1", "1.2.3.4", []string{"X-Forwarded-For: 1.2.3.4"}},
		{"[::ffff:10.1.1.1]:1", "1.2.3.4", []string{"X-Forwarded-For: 1.2.3.4"}},

		// X-Forwarded-For: the rightmost address that is not trusted.
		{proxy, "1.2.3.4", []string{"x-forwarded-FOR:1.2.3.4"}},
		{proxy, "1.2.3.4", []string{"X-Forwarded-For: 6.6.6.6, 1.2.3.4"}},
		{proxy, "1.2.3.4", []string{"X-Forwarded-For: 6.6.6.6, 1.2.3.4, 10.9.9.9,192.0.2.7"}},
		{proxy, "1.2.3.4", []string{"X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 1.2.3.4", "X-Forwarded-For: 10.2.2.2"}},
		{proxy, "10.8.8.8", []string{"X-Forwarded-For: 10.8.8.8, 10.9.9.9"}}, // all within
		{proxy, "1.2.3.4:99", []string{"X-Forwarded-For: 1.2.3.4:99"}},
		{proxy, "2001:db8::1", []string{"X-Forwarded-For: 2001:DB8:0::1"}},
		{proxy, "2001:db8::1", []string{"X-Forwarded-For: [2001:db8::1]"}},
		{proxy, "[2001:db8::1]:99", []string{"X-Forwarded-For: [2001:db8::1]:99"}},
		{proxy, "1.2.3.4", []string{"X-Forwarded-For: ::ffff:1.2.3.4"}},
		{proxy, "1.2.3.4", []string{"X-Forwarded-For: 6.6.6.6, ::ffff:1.2.3.4, ::ffff:10.1.1.1"}},
		{proxy, "1.2.3.4", []string{"X-Forwarded-For: , 1.2.3.4 ,, ,"}},
		{proxy, "1.2.3.4", []string{"X-Forwarded-For: 1.2.3.4", "X-Forwarded-For:"}},
		{proxy, proxy, []string{"X-Forwarded-For:"}},
		{proxy, proxy, []string{"X-Forwarded-For: , ,"}},

		// A malformed hop ends the walk; the hop before it counts.
		{proxy, proxy, []string{"X-Forwarded-For: unknown"}},
		{proxy, proxy, []string{"X-Forwarded-For: 1.2.3.4, localhost"}},
		{proxy, "10.9.9.9", []string{"X-Forwarded-For: 1.2.3.4, nonsense, 10.9.9.9"}},
		{proxy, proxy, []string{"X-Forwarded-For: 1.2.3"}},
		{proxy, proxy, []string{"X-Forwarded-For: 01.2.3.4"}},
		{proxy, proxy, []string{"X-Forwarded-For: 1.2.3.4:"}},
		{proxy, proxy, []string{"X-Forwarded-For: 1.2.3.4:65536"}},
		{proxy, proxy, []string{"X-Forwarded-For: 1.2.3.4:8x"}},
		{proxy, proxy, []string{"X-Forwarded-For: [1.2.3.4]:80"}},
		{proxy, proxy, []string{"X-Forwarded-For: [::1"}},
		{proxy, proxy, []string{"X-Forwarded-For: [::1]80"}},
		{proxy, proxy, []string{"X-Forwarded-For: [::1]:"}},
		{proxy, proxy, []string{"X-Forwarded-For: fe80::1%eth0"}},
		{proxy, proxy, []string{`X-Forwarded-For: "1.2.3.4"`}},
		{proxy, proxy, []string{"X-Forwarded-For: 1.2.3.4 5.6.7.8"}},
		{proxy, proxy, []string{"X-Forwarded-For: for=1.2.3.4"}},

		// Forwarded: the examples of RFC 7239 sections 4, 6 and 7.
		{proxy, proxy, []string{`Forwarded: for="_gazonk"`}},
		{proxy, "[2001:db8:cafe::17]:4711", []string{`Forwarded: For="[2001:db8:cafe::17]:4711"`}},
		{proxy, "192.0.2.60", []string{"Forwarded: for=192.0.2.60;proto=http;by=203.0.113.43"}},
		{proxy, "198.51.100.17", []string{"Forwarded: for=192.0.2.43, for=198.51.100.17"}},
		{proxy, "2001:db8:cafe::17", []string{`Forwarded: for=192.0.2.43, for="[2001:db8:cafe::17]"`}},
		{proxy, proxy, []string{"Forwarded: for=192.0.2.43, for=unknown"}},
		{proxy, proxy, []string{"Forwarded: for=_hidden, for=_SEVKISEK"}},
		{proxy, "192.0.2.43:47011", []string{`Forwarded: for="192.0.2.43:47011"`}},
		{proxy, "192.0.2.43", []string{`Forwarded: for="192.0.2.43:_port"`}},
		{proxy, "2001:db8::1", []string{`Forwarded: for="[2001:db8::1]:_x"`}},

		// Its syntax.
		{proxy, "1.2.3.4", []string{`Forwarded: by=10.0.0.1 ; FOR=1.2.3.4 ; host="a,b;for=6.6.6.6"`}},
		{proxy, "1.2.3.4", []string{`Forwarded: for=6.6.6.6;host="x", for=1.2.3.4;host="a\",for=5.5.5.5\\"`}},
		{proxy, "1.2.3.4", []string{`Forwarded: for="1.2.\3.4"`}},
		{proxy, "1.2.3.4", []string{"Forwarded: ;for=1.2.3.4;;proto=https;"}},
		{proxy, "1.2.3.4", []string{"Forwarded: for=1.2.3.4;secret=_x, for=10.1.1.1, for=10.2.2.2;by=x"}},
		{proxy, "1.2.3.4", []string{"Forwarded: for=6.6.6.6", "Forwarded: for=1.2.3.4", "Forwarded: for=10.1.1.1"}},
		{proxy, proxy, []string{"Forwarded: proto=https"}},
		{proxy, proxy, []string{"Forwarded: for=6.6.6.6, proto=https"}},
		{proxy, proxy, []string{"Forwarded: for=1.2.3.4;for=6.6.6.6"}},
		{proxy, proxy, []string{"Forwarded: 1.2.3.4"}},
		{proxy, proxy, []string{"Forwarded: for=1.2.3.4 proto=https"}},
		{proxy, proxy, []string{`Forwarded: for="1.2.3.4"x`}},
		{proxy, proxy, []string{`Forwarded: for="1.2.3.4`}},
		{proxy, proxy, []string{`Forwarded: for=1.2.3.4"`}},
		{proxy, proxy, []string{`Forwarded: for="1.2.3.4\`}},
		{proxy, proxy, []string{"Forwarded: for="}},
		{proxy, proxy, []string{"Forwarded: =1.2.3.4"}},
		{proxy, proxy, []string{"Forwarded: fo r=1.2.3.4"}},

		// Nothing that a client sends changes how the proxy's element at the right is parsed.
		{proxy, "1.2.3.4", []string{`Forwarded: for=6.6.6.6, for=", for=1.2.3.4`}},
		{proxy, "1.2.3.4", []string{`Forwarded: for="6.6.6.6\, for=1.2.3.4`}},
		{proxy, "1.2.3.4", []string{`Forwarded: for=", for="1.2.3.4";by="10.0.0.1"`}},
		// Nor does what the proxy quotes, such as the client's Host.
		{proxy, "1.2.3.4", []string{`Forwarded: for=1.2.3.4;host="x,for=6.6.6.6;y"`}},

		// Both headers.
		{proxy, "1.2.3.4", []string{"Forwarded: for=1.2.3.4", "X-Forwarded-For: 1.2.3.4"}},
		{proxy, "1.2.3.4:5", []string{"Forwarded: for=1.2.3.4", "X-Forwarded-For: 1.2.3.4:5"}},
		{proxy, "1.2.3.4", []string{"Forwarded: for=6.6.6.6, for=1.2.3.4", "X-Forwarded-For: 1.2.3.4, 10.1.1.1"}},
		{proxy, proxy, []string{"Forwarded: for=6.6.6.6", "X-Forwarded-For: 1.2.3.4"}},
		{proxy, proxy, []string{"Forwarded: for=unknown", "X-Forwarded-For: 1.2.3.4"}},
		{proxy, proxy, []string{"Forwarded:", "X-Forwarded-For: 1.2.3.4"}},
	} {
		if got := remoteAddr(t, f, tt.peer, tt.lines...); got != tt.want {
			t.Errorf("%s with %q: %q, want %q", tt.peer, tt.lines, got, tt.want)
		}
	}
}

// Without trusted networks no header counts.
func TestForwardedOff(t *testing.T) {
	if got := remoteAddr(t, &forwarding{}, "10.0.0.1:1", "X-Forwarded-For: 1.2.3.4", "Forwarded: for=1.2.3.4"); got != "10.0.0.1:1" {
		t.Error(got)
	}
}

// The number of hops and lines that are read is bounded; beyond it the last hop read counts.
func TestForwardedBounds(t *testing.T) {
	f := newForwarding(t, slog.New(slog.DiscardHandler))
	const hop = ", 10.1.1.1"
	for hops, want := range map[int]string{0: "1.2.3.4", maxForwardedHops - 1: "1.2.3.4", maxForwardedHops: "10.1.1.1", 1000: "10.1.1.1"} {
		if got := remoteAddr(t, f, "10.0.0.1:1", "X-Forwarded-For: 1.2.3.4"+strings.Repeat(hop, hops)); got != want {
			t.Errorf("%d more hops: %s, want %s", hops, got, want)
		}
		lines := []string{"X-Forwarded-For: 1.2.3.4"}
		for range hops {
			lines = append(lines, "X-Forwarded-For: 10.1.1.1")
		}
		if got := remoteAddr(t, f, "10.0.0.1:1", lines...); got != want {
			t.Errorf("%d more lines: %s, want %s", hops, got, want)
		}
	}
	// Empty lines count as lines, too.
	lines := []string{"X-Forwarded-For: 1.2.3.4"}
	for range maxForwardedLines {
		lines = append(lines, "X-Forwarded-For:")
	}
	if got := remoteAddr(t, f, "10.0.0.1:1", lines...); got != "10.0.0.1:1" {
		t.Errorf("before empty lines: %s", got)
	}
}

func TestForwardedDisagreementIsLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	f := newForwarding(t, slog.New(slog.NewTextHandler(&log, nil)))
	remoteAddr(t, f, "10.0.0.1:1", "Forwarded: for=1.2.3.4", "X-Forwarded-For: 1.2.3.4")
	if got := log.String(); got != "" {
		t.Errorf("logged although the headers agree: %s", got)
	}
	for range 3 {
		remoteAddr(t, f, "10.0.0.1:1", "Forwarded: for=6.6.6.6", "X-Forwarded-For: 1.2.3.4")
	}
	if got := log.String(); strings.Count(got, "level=WARN") != 1 || !strings.Contains(got, "remote=10.0.0.1:1") {
		t.Errorf("log:\n%s", got)
	}
}

func TestNetworks(t *testing.T) {
	prefixes, err := config.ParseNetworks([]string{"10.0.0.0/8", "fd00::/8", "192.0.2.7", "::1", "::ffff:192.0.2.8", "0.0.0.0/32"})
	if err != nil {
		t.Fatal(err)
	}
	n := ratelimit.Networks(prefixes)
	for ip, want := range map[string]bool{
		"10.0.0.0": true, "10.255.255.255": true, "11.0.0.0": false, "::ffff:10.0.0.1": true, "fd00::1": true, "fd12::1%eth0": true,
		"fe80::1": false, "192.0.2.7": true, "192.0.2.8": true, "192.0.2.9": false, "::1": true, "::2": false, "0.0.0.0": true,
	} {
		if got := n.Contain(netip.MustParseAddr(ip)); got != want {
			t.Errorf("%s: %v", ip, got)
		}
	}
	if n.Contain(netip.Addr{}) {
		t.Error("no address at all is in it")
	}
}

// Clients without a proxy cost no allocation.
func TestForwardedAllocs(t *testing.T) {
	f := newForwarding(t, slog.New(slog.DiscardHandler))
	header := http.Header{"X-Forwarded-For": {"1.2.3.4"}}
	if a := testing.AllocsPerRun(100, func() { f.ofHeader("203.0.113.9:1", header) }); a != 0 {
		t.Errorf("%v allocations", a)
	}
}

// FuzzForwarded checks invariants for any header: the result is an address, and a client can
// neither choose nor hide its address if the proxy appends it to either header.
func FuzzForwarded(f *testing.F) {
	for _, s := range []string{
		"", "1.2.3.4", "6.6.6.6, 10.1.1.1", `for="[2001:db8::1]:99";by=x`, `for=6.6.6.6, for="`, `for="6.6.6.6\`, `a"b\"c,,;`, "[::1]:80", ",,\t,",
	} {
		f.Add(s, s)
	}
	// Other bytes cannot occur in a parsed head.
	legal := func(s string) bool {
		return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		if !legal(first) || !legal(second) {
			return
		}
		fw := newForwarding(t, slog.New(slog.DiscardHandler))
		const proxy = "10.0.0.1:1"
		for _, name := range []string{headerForwarded, headerXForwardedFor} {
			got := remoteAddr(t, fw, proxy, name+": "+first, name+": "+second)
			if _, err := netip.ParseAddr(got); err != nil {
				if _, err := netip.ParseAddrPort(got); err != nil {
					t.Fatalf("%q, %q: %q is not an address", first, second, got)
				}
			}
		}
		for _, added := range []string{"Forwarded: " + first + ", for=1.2.3.4", "Forwarded: " + first + `, for="1.2.3.4";by="10.0.0.1"`, "X-Forwarded-For: " + first + ", 1.2.3.4"} {
			name, _, _ := strings.Cut(added, ":")
			if got := remoteAddr(t, fw, proxy, name+": "+second, added); got != "1.2.3.4" {
				t.Fatalf("%q after %q: %s", added, second, got)
			}
		}
		both := remoteAddr(t, fw, proxy, "Forwarded: "+first, "X-Forwarded-For: "+second+", 1.2.3.4")
		if both != proxy && both != "1.2.3.4" && !strings.HasPrefix(both, "1.2.3.4:") {
			t.Fatalf("%q chose %s", first, both)
		}
	})
}

func BenchmarkForwarded(b *testing.B) {
	f := newForwarding(b, slog.New(slog.DiscardHandler))
	header := http.Header{"X-Forwarded-For": {"6.6.6.6, 1.2.3.4, 10.1.1.1"}}
	b.ReportAllocs()
	for b.Loop() {
		f.ofHeader("10.0.0.1:5555", header)
	}
}
