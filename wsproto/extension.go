package wsproto

import "bytes"

// Parameters of permessage-deflate (RFC 7692 §7.1).
const (
	deflateName     = "permessage-deflate"
	serverNoContext = "server_no_context_takeover"
	clientNoContext = "client_no_context_takeover"
	serverMaxBits   = "server_max_window_bits"
	clientMaxBits   = "client_max_window_bits"
)

// The answers to an offer. Both sides give up their context: the server so that
// one compressed frame serves every client, the client so that nothing need be
// kept between its messages. A server may ask for both even if the client did
// not offer it (RFC 7692 §7.1.1.1, §7.1.1.2).
const (
	deflateAnswer       = "Sec-WebSocket-Extensions: " + DeflateOffer + "\r\n"
	deflateAnswerBits15 = "Sec-WebSocket-Extensions: " + DeflateOffer + "; " + serverMaxBits + "=15\r\n"
)

// DeflateOffer is what a client of ours puts in Sec-WebSocket-Extensions to ask
// for compression that its Parser can undo.
const DeflateOffer = deflateName + "; " + serverNoContext + "; " + clientNoContext

// NegotiateDeflate looks for the first offer of permessage-deflate in a
// handshake that can be accepted (RFC 6455 §9.1, RFC 7692 §5 and §7.1). It
// returns the complete field line that accepts it, for AppendUpgradeDeflate, or
// "" if there is none. The line is a constant and outlives h. Once it is sent,
// Parser.EnableDeflate must be called, and AppendDeflated may be used.
//
// An offer is declined, and the next one tried, if it has a parameter that is
// unknown, repeated or has no valid value, and if it limits the server's window:
// the library could compress for smaller ones, but the frame that all clients
// share could not then be shared. The client's window needs no limit. What
// follows a malformed element of the list is not looked at.
func NegotiateDeflate(h *Head) (answer string) {
	for _, f := range h.fields {
		if equalFold(h.raw[f.start:f.colon], "Sec-WebSocket-Extensions") {
			if answer = negotiate(h.raw[f.from:f.to]); answer != "" {
				return answer
			}
		}
	}
	return ""
}

// negotiate is NegotiateDeflate for one field's value.
func negotiate(list []byte) (answer string) {
	s := offerScanner{rest: list, ok: true}
	for s.skipEmpty(); len(s.rest) > 0; s.skipEmpty() {
		var o deflateOffer
		accept := string(s.token()) == deflateName
		for s.next(';') {
			name := s.token()
			var value []byte
			given := s.next('=')
			if given {
				value = s.value()
			}
			accept = accept && s.ok && o.param(name, value, given)
		}
		if !s.ok || len(s.rest) > 0 && s.rest[0] != ',' {
			return ""
		}
		if accept {
			return o.answer()
		}
	}
	return ""
}

// deflateOffer is what an offer's parameters have said so far.
type deflateOffer struct{ serverNoContext, clientNoContext, serverBits, clientBits bool }

// param takes a parameter and reports whether it can be honoured.
func (o *deflateOffer) param(name, value []byte, given bool) bool {
	once := func(seen *bool) bool {
		first := !*seen
		*seen = true
		return first
	}
	switch string(name) {
	case serverNoContext:
		return !given && once(&o.serverNoContext)
	case clientNoContext:
		return !given && once(&o.clientNoContext)
	case serverMaxBits:
		return windowBits(value) == 15 && once(&o.serverBits)
	case clientMaxBits:
		return (!given || windowBits(value) > 0) && once(&o.clientBits)
	}
	return false
}

func (o *deflateOffer) answer() string {
	if o.serverBits {
		return deflateAnswerBits15
	}
	return deflateAnswer
}

// windowBits returns a window's size, 8 to 15, or 0 if the value is not one:
// a decimal number without leading zeros (RFC 7692 §7.1.2).
func windowBits(value []byte) int {
	switch {
	case len(value) == 1 && (value[0] == '8' || value[0] == '9'):
		return int(value[0] - '0')
	case len(value) == 2 && value[0] == '1' && '0' <= value[1] && value[1] <= '5':
		return 10 + int(value[1]-'0')
	}
	return 0
}

// offerScanner takes a list of extensions apart (RFC 6455 §9.1). White space is
// skipped before and behind everything it takes.
type offerScanner struct {
	rest []byte
	ok   bool // so far the list is well-formed
}

func (s *offerScanner) skipSpace() { s.rest = bytes.TrimLeft(s.rest, " \t") }

// skipEmpty skips the list's commas; empty elements are allowed (RFC 9110 §5.6.1).
func (s *offerScanner) skipEmpty() { s.rest = bytes.TrimLeft(s.rest, " \t,") }

// next takes a separator if it is the next byte.
func (s *offerScanner) next(c byte) bool {
	if len(s.rest) == 0 || s.rest[0] != c {
		return false
	}
	s.rest = s.rest[1:]
	s.skipSpace()
	return true
}

// token takes a token; none is there, the list is malformed.
func (s *offerScanner) token() (t []byte) {
	n := 0
	for n < len(s.rest) && tokenBytes[s.rest[n]] {
		n++
	}
	s.ok = s.ok && n > 0
	t, s.rest = s.rest[:n], s.rest[n:]
	s.skipSpace()
	return t
}

// value takes a token, or a string in quotes that is one once it is unescaped.
func (s *offerScanner) value() (v []byte) {
	if len(s.rest) == 0 || s.rest[0] != '"' {
		return s.token()
	}
	for i := 1; i < len(s.rest); i++ {
		switch c := s.rest[i]; {
		case c == '"':
			s.ok = s.ok && isToken(v)
			s.rest = s.rest[i+1:]
			s.skipSpace()
			return v
		case c == '\\' && i+1 < len(s.rest):
			i++
			fallthrough
		default:
			v = append(v, s.rest[i])
		}
	}
	s.ok, s.rest = false, nil
	return nil
}
