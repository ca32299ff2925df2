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

// The responses to an offer. Neither side takes over its context. So one compressed frame serves
// every client, and the server keeps no window between a client's messages. A server may demand
// both even if the client did not offer them (RFC 7692 §7.1.1.1, §7.1.1.2).
const (
	deflateAnswer       = "Sec-WebSocket-Extensions: " + DeflateOffer + "\r\n"
	deflateAnswerBits15 = "Sec-WebSocket-Extensions: " + DeflateOffer + "; " + serverMaxBits + "=15\r\n"
)

// DeflateOffer is the Sec-WebSocket-Extensions value of a client that uses Parser: an offer of
// compression that Parser can inflate.
const DeflateOffer = deflateName + "; " + serverNoContext + "; " + clientNoContext

// NegotiateDeflate finds the first acceptable offer of permessage-deflate in a handshake (RFC 6455
// §9.1, RFC 7692 §5 and §7.1). It returns the complete field line that accepts it, for
// AppendUpgradeDeflate, or "" if there is none. The line is a constant and outlives h. After
// sending it, the caller must call Parser.EnableDeflate, and may use AppendDeflated.
//
// It declines an offer with a parameter that is unknown, repeated or invalid, and tries the next
// one. It also declines one that limits the server's window: a frame compressed for a smaller
// window could not be shared by all clients. The client's window needs no limit. Offers after a
// malformed element of the list are ignored.
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

// deflateOffer has the parameters of an offer that were parsed so far.
type deflateOffer struct{ serverNoContext, clientNoContext, serverBits, clientBits bool }

// param records a parameter and reports whether it is acceptable.
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

// windowBits returns the window size, 8 to 15, of a decimal number without leading zeros (RFC 7692
// §7.1.2), or 0 if value is not one.
func windowBits(value []byte) int {
	switch {
	case len(value) == 1 && (value[0] == '8' || value[0] == '9'):
		return int(value[0] - '0')
	case len(value) == 2 && value[0] == '1' && '0' <= value[1] && value[1] <= '5':
		return 10 + int(value[1]-'0')
	}
	return 0
}

// offerScanner parses a list of extensions (RFC 6455 §9.1). It skips white space around each item.
type offerScanner struct {
	rest []byte
	ok   bool // whether the list is well-formed so far
}

func (s *offerScanner) skipSpace() { s.rest = bytes.TrimLeft(s.rest, " \t") }

// skipEmpty skips the list's commas; empty elements are allowed (RFC 9110 §5.6.1).
func (s *offerScanner) skipEmpty() { s.rest = bytes.TrimLeft(s.rest, " \t,") }

// next consumes the separator c if it is the next byte, and reports whether it was.
func (s *offerScanner) next(c byte) bool {
	if len(s.rest) == 0 || s.rest[0] != c {
		return false
	}
	s.rest = s.rest[1:]
	s.skipSpace()
	return true
}

// token consumes a token. Without one the list is malformed.
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

// value consumes a token, or a quoted string whose unescaped text is a token.
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
