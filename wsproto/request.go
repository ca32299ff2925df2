package wsproto

import "bytes"

// maxLengthDigits bounds the Content-Length that Plain accepts to less than a gigabyte.
const maxLengthDigits = 9

// Plain reports whether every HTTP parser reads the request alike. A plain request is HTTP/1.1 with
// exactly one Host. Its target is an absolute path whose characters need no interpretation. It has
// no body or one Content-Length, and no Expect, Upgrade, Trailer or Transfer-Encoding. length is
// that of the body. last reports whether the client asks to close the connection after the
// response.
//
// A request that is not plain may be valid. It is left to a complete HTTP server, which can also
// explain an error.
func (h *Head) Plain() (length int, last, ok bool) {
	if string(h.Proto) != "HTTP/1.1" || !plainTarget(h.Target) {
		return 0, false, false
	}
	hosts, lengths := 0, 0
	for _, f := range h.fields {
		name, value := h.raw[f.start:f.colon], h.raw[f.from:f.to]
		switch len(name) {
		case len("Host"):
			if equalFold(name, "Host") {
				if hosts++; !plainHost(value) {
					return 0, false, false
				}
			}
		case len("Expect"):
			if equalFold(name, "Expect") {
				return 0, false, false
			}
		case len("Upgrade"): // and Trailer
			if equalFold(name, "Upgrade") || equalFold(name, "Trailer") {
				return 0, false, false
			}
		case len("Connection"):
			if !last && equalFold(name, "Connection") {
				last = hasElement(value, "close")
			}
		case len("Content-Length"):
			if equalFold(name, "Content-Length") {
				if lengths++; len(value) > maxLengthDigits || !isNumber(value) {
					return 0, false, false
				}
				length = 0
				for _, c := range value {
					length = 10*length + int(c-'0')
				}
			}
		case len("Transfer-Encoding"):
			if equalFold(name, "Transfer-Encoding") {
				return 0, false, false
			}
		}
	}
	return length, last, hosts == 1 && lengths <= 1
}

// plainTarget reports whether target is an absolute path with an optional query, in the characters
// of RFC 3986 §3.3 and §3.4.
func plainTarget(target []byte) bool {
	if len(target) == 0 || target[0] != '/' {
		return false
	}
	for i := 0; i < len(target); i++ {
		c := target[i]
		switch {
		case pathBytes[c]:
		case c == '?':
			for _, c := range target[i+1:] {
				if !pathBytes[c] && c != '?' && c != '%' {
					return false
				}
			}
			return true
		case c == '%' && i+2 < len(target) && isHexDigit(target[i+1]) && isHexDigit(target[i+2]):
			i += 2
		default:
			return false
		}
	}
	return true
}

// plainHost reports whether value is not empty and has only characters of a host and a port (RFC
// 3986 §3.2).
func plainHost(value []byte) bool {
	for _, c := range value {
		if !hostBytes[c] {
			return false
		}
	}
	return len(value) > 0
}

var pathBytes, hostBytes = func() (path, host [256]bool) {
	for c := range 256 {
		alnum := isDigit(byte(c)) || 'a' <= c|0x20 && c|0x20 <= 'z' && c < 0x80
		path[c] = alnum || c < 0x80 && bytes.IndexByte([]byte("-._~!$&'()*+,;=:@/"), byte(c)) >= 0
		host[c] = alnum || c < 0x80 && bytes.IndexByte([]byte("-._~:[]"), byte(c)) >= 0
	}
	return path, host
}()

func isHexDigit(c byte) bool { return isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'f' }
