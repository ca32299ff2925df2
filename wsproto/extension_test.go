package wsproto

import (
	"strings"
	"testing"
)

// Negotiation: RFC 6455 section 9.1, RFC 7692 sections 5 and 7.1.

func TestNegotiateDeflate(t *testing.T) {
	const plain = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
	const bits15 = plain + "; server_max_window_bits=15"
	for _, c := range []struct {
		name   string
		offers []string // one for each field
		want   string   // "": declined
	}{
		{"no field", nil, ""},
		{"empty field", []string{""}, ""},
		{"alone", []string{"permessage-deflate"}, plain},
		{"as a browser does", []string{"permessage-deflate; client_max_window_bits"}, plain},
		{"our own", []string{DeflateOffer}, plain},
		{"server without context", []string{"permessage-deflate; server_no_context_takeover"}, plain},
		{"client without context", []string{"permessage-deflate;client_no_context_takeover"}, plain},
		{"client's window of 8", []string{"permessage-deflate; client_max_window_bits=8"}, plain},
		{"client's window of 15", []string{"permessage-deflate; client_max_window_bits=15"}, plain},
		{"client's window in quotes", []string{`permessage-deflate; client_max_window_bits="10"`}, plain},
		{"client's window in quotes, escaped", []string{`permessage-deflate; client_max_window_bits="\1\0"`}, plain},
		{"server's window of 15", []string{"permessage-deflate; server_max_window_bits=15"}, bits15},
		{"server's window of 15 in quotes", []string{`permessage-deflate; server_max_window_bits = "15"`}, bits15},
		{"everything", []string{"permessage-deflate; client_max_window_bits=9; server_max_window_bits=15; client_no_context_takeover; server_no_context_takeover"}, bits15},
		{"white space", []string{" \t permessage-deflate \t; \t client_max_window_bits \t=\t 10 \t "}, plain},
		{"empty elements", []string{", ,permessage-deflate,, "}, plain},

		{"another extension", []string{"x-webkit-deflate-frame"}, ""},
		{"other case", []string{"Permessage-Deflate"}, ""},
		{"name as a part", []string{"permessage-deflate2"}, ""},
		{"unknown parameter", []string{"permessage-deflate; level=9"}, ""},
		{"parameter in other case", []string{"permessage-deflate; Client_max_window_bits"}, ""},
		{"server without context, a value", []string{"permessage-deflate; server_no_context_takeover=1"}, ""},
		{"client without context, a value", []string{`permessage-deflate; client_no_context_takeover="x"`}, ""},
		{"server without context twice", []string{"permessage-deflate; server_no_context_takeover; server_no_context_takeover"}, ""},
		{"client without context twice", []string{"permessage-deflate; client_no_context_takeover; client_no_context_takeover"}, ""},
		{"client's window twice", []string{"permessage-deflate; client_max_window_bits; client_max_window_bits=15"}, ""},
		{"server's window twice", []string{"permessage-deflate; server_max_window_bits=15; server_max_window_bits=15"}, ""},
		{"server's window without value", []string{"permessage-deflate; server_max_window_bits"}, ""},
		{"server's window of 8", []string{"permessage-deflate; server_max_window_bits=8"}, ""},
		{"server's window of 14", []string{"permessage-deflate; server_max_window_bits=14"}, ""},
		{"server's window of 16", []string{"permessage-deflate; server_max_window_bits=16"}, ""},
		{"client's window of 7", []string{"permessage-deflate; client_max_window_bits=7"}, ""},
		{"client's window of 16", []string{"permessage-deflate; client_max_window_bits=16"}, ""},
		{"client's window of 20", []string{"permessage-deflate; client_max_window_bits=20"}, ""},
		{"client's window with a zero", []string{"permessage-deflate; client_max_window_bits=08"}, ""},
		{"client's window with a sign", []string{"permessage-deflate; client_max_window_bits=+9"}, ""},
		{"client's window of three digits", []string{"permessage-deflate; client_max_window_bits=010"}, ""},
		{"client's window is a word", []string{"permessage-deflate; client_max_window_bits=x"}, ""},

		{"the second offer", []string{"permessage-deflate; server_max_window_bits=10, permessage-deflate; client_max_window_bits"}, plain},
		{"the first of two", []string{"permessage-deflate, permessage-deflate; server_max_window_bits=15"}, plain},
		{"after a value that is no token", []string{`foo; bar="a\"b", permessage-deflate; x=1, permessage-deflate; server_max_window_bits=15`}, ""},
		{"after another extension", []string{`foo; bar="baz"; qux, permessage-deflate; server_max_window_bits=15`}, bits15},
		{"in the second field", []string{"foo", "permessage-deflate"}, plain},
		{"in the second field, the first is malformed", []string{"foo;", "permessage-deflate"}, plain},

		{"no parameter after the semicolon", []string{"permessage-deflate;"}, ""},
		{"no value", []string{"permessage-deflate; client_max_window_bits="}, ""},
		{"no name", []string{"; client_max_window_bits"}, ""},
		{"two words", []string{"permessage-deflate client_max_window_bits"}, ""},
		{"quotes not closed", []string{`permessage-deflate; client_max_window_bits="10`}, ""},
		{"quotes closed by an escape", []string{`permessage-deflate; client_max_window_bits="10\"`}, ""},
		{"quotes end in an escape", []string{`permessage-deflate; client_max_window_bits="10\`}, ""},
		{"empty quotes", []string{`permessage-deflate; client_max_window_bits=""`}, ""},
		{"quotes with a space", []string{`foo; bar="a b", permessage-deflate`}, ""},
		{"a word behind the quotes", []string{`permessage-deflate; client_max_window_bits="10"x`}, ""},
		{"malformed before", []string{"foo/bar, permessage-deflate"}, ""},
		{"malformed after", []string{"permessage-deflate, foo/bar"}, plain},
	} {
		t.Run(c.name, func(t *testing.T) {
			var changes []string
			for _, o := range c.offers {
				changes = append(changes, "+sec-websocket-EXTENSIONS: "+o)
			}
			h := mustParse(t, handshake(changes...))
			answer := NegotiateDeflate(h)
			if want := c.want; want != "" && answer != "Sec-WebSocket-Extensions: "+want+"\r\n" || want == "" && answer != "" {
				t.Fatalf("got %q, want %q", answer, want)
			}
			resp, _ := readResponse(t, AppendUpgradeDeflate(nil, h, answer, func(dst []byte) []byte { return append(dst, "Set-Cookie: a=b\r\n"...) }))
			if got := resp.Header.Get("Sec-Websocket-Extensions"); got != c.want || resp.Header.Get("Set-Cookie") != "a=b" {
				t.Fatalf("answer %v", resp.Header)
			}
		})
	}
}

// FuzzNegotiate: whatever is offered, the answer is one of ours, and an offer
// that is accepted stays so whatever follows it in the list.
func FuzzNegotiate(f *testing.F) {
	f.Add("permessage-deflate; client_max_window_bits")
	f.Add(`foo; bar="a\"b", permessage-deflate; server_max_window_bits=15`)
	f.Add(`permessage-deflate; client_max_window_bits="10\`)
	f.Add(",;=\"")
	f.Fuzz(func(t *testing.T, list string) {
		answer := negotiate([]byte(list))
		if answer != "" && answer != deflateAnswer && answer != deflateAnswerBits15 {
			t.Fatalf("answer %q", answer)
		}
		if answer == "" {
			return
		}
		if !strings.Contains(list, deflateName) {
			t.Fatalf("%q is answered with %q", list, answer)
		}
		if again := negotiate([]byte(list + ", foo/")); again != answer {
			t.Fatalf("%q: %q, with more in the list %q", list, answer, again)
		}
		if again := negotiate([]byte("foo, " + list)); again != answer {
			t.Fatalf("%q: %q, with more before %q", list, answer, again)
		}
	})
}
