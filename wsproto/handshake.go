package wsproto

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
)

// HandshakeError is the reason to reject a request head, with the HTTP response. Each is a variable
// of this package, to be compared with ==, or comes from CheckComplete.
type HandshakeError struct {
	Status int    // HTTP status code of the response
	Name   string // short and stable, for counters: "too_large"
	Reason string // one sentence, for the response's body and for logs
	Header string // complete field lines of the response, each with its CR LF; may be empty
}

func (e *HandshakeError) Error() string { return "wsproto: " + e.Reason }

// The errors of ParseHead.
var (
	// ErrHeadTooLarge: no blank line within the limit (RFC 6585 §5).
	ErrHeadTooLarge = &HandshakeError{Status: 431, Name: "head_too_large", Reason: "The request head is too large."}
	// ErrHeadControl: a control byte in a line, a lone CR included (RFC 9110 §5.5, RFC 9112 §2.2).
	ErrHeadControl = &HandshakeError{Status: 400, Name: "head_control", Reason: "The request head contains a control character."}
	// ErrHeadLineEnd: a line ends in LF without CR (RFC 9112 §2.2 lets a server accept it; this one
	// does not).
	ErrHeadLineEnd = &HandshakeError{Status: 400, Name: "head_line_end", Reason: "A line of the request head does not end in CR LF."}
	// ErrHeadFold: a field line begins with white space (RFC 9112 §2.2, §5.2).
	ErrHeadFold = &HandshakeError{Status: 400, Name: "head_fold", Reason: "The request head has a folded line."}
	// ErrRequestLine: not "method SP target SP HTTP/digit.digit" (RFC 9112 §3).
	ErrRequestLine = &HandshakeError{Status: 400, Name: "request_line", Reason: "The request line is malformed."}
	// ErrHTTPVersion: a major version other than 1 (RFC 9110 §15.6.6).
	ErrHTTPVersion = &HandshakeError{Status: 505, Name: "http_version", Reason: "Only HTTP/1 is spoken here."}
	// ErrFieldName: a line without colon, or a name that is empty or has white space or another
	// byte that is not valid in a token (RFC 9112 §5.1).
	ErrFieldName = &HandshakeError{Status: 400, Name: "field_name", Reason: "A header field has a malformed name."}
	// ErrContentLength: not a number, or given more than once (RFC 9112 §6.3).
	ErrContentLength = &HandshakeError{Status: 400, Name: "content_length", Reason: "Content-Length is malformed or repeated."}
	// ErrTransferEncoding: together with Content-Length, or in HTTP/1.0 (RFC 9112 §6.1).
	ErrTransferEncoding = &HandshakeError{Status: 400, Name: "transfer_encoding", Reason: "Transfer-Encoding is not allowed with Content-Length or in HTTP/1.0."}
)

// The errors of CheckUpgrade, in the order of the checks. Sections are of RFC 6455.
var (
	// ErrMethod: the method is not GET (§4.1 item 2, §4.2.1 item 1).
	ErrMethod = &HandshakeError{Status: 405, Name: "method", Reason: "A WebSocket handshake is a GET request.", Header: "Allow: GET\r\n"}
	// ErrProto: below HTTP/1.1 (§4.1 item 2, §4.2.1 item 1).
	ErrProto = &HandshakeError{Status: 400, Name: "proto", Reason: "The WebSocket handshake came with HTTP/1.0 instead of HTTP/1.1, which a proxy may have changed."}
	// ErrTarget: neither a path nor an http(s) URI, or with a fragment (§3, §4.2.1 item 1).
	ErrTarget = &HandshakeError{Status: 400, Name: "target", Reason: "The request target is not usable for a WebSocket."}
	// ErrHost: not exactly one Host field with a host in it (§4.2.1 item 2, RFC 9112 §3.2).
	ErrHost = &HandshakeError{Status: 400, Name: "host", Reason: "Host is missing, repeated or malformed."}
	// ErrVersion: Sec-WebSocket-Version is not 13 (§4.2.1 item 6, §4.2.2 item 4, §4.4).
	ErrVersion = &HandshakeError{Status: 426, Name: "version", Reason: "Only WebSocket version 13 is spoken here.", Header: upgradeRequired}
	// ErrVersionRepeated: Sec-WebSocket-Version is given more than once (§11.3.5).
	ErrVersionRepeated = &HandshakeError{Status: 400, Name: "version_repeated", Reason: "Sec-WebSocket-Version is repeated."}
	// ErrKeyRepeated: Sec-WebSocket-Key is given more than once (§11.3.1).
	ErrKeyRepeated = &HandshakeError{Status: 400, Name: "key_repeated", Reason: "Sec-WebSocket-Key is repeated."}
	// ErrKey: Sec-WebSocket-Key is not 16 bytes in base64 (§4.2.1 item 5).
	ErrKey = &HandshakeError{Status: 400, Name: "key", Reason: "Sec-WebSocket-Key is not 16 bytes in base64."}
	// ErrOriginRepeated: Origin is given more than once, so that a second one could evade a check
	// of the first (§4.2.1 item 7, RFC 6454 §7.3).
	ErrOriginRepeated = &HandshakeError{Status: 400, Name: "origin_repeated", Reason: "Origin is repeated."}
	// ErrBody: the request announces a body, which would be read as frames.
	ErrBody = &HandshakeError{Status: 400, Name: "body", Reason: "A WebSocket handshake has no body."}
)

const upgradeRequired = "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"

// The header fields that make a request a handshake (RFC 6455 §4.2.1 items 3 to 6), as bits of a
// set.
const (
	lacksUpgrade = 1 << iota
	lacksConnection
	lacksKey
	lacksVersion
	lacksAll = 1<<iota - 1
)

// incomplete has the error for each set of missing fields. Proxies drop fields that concern a
// single connection, unless they are told to pass them on.
var incomplete = func() (errs [lacksAll + 1]*HandshakeError) {
	names := [...]string{"Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key", "Sec-WebSocket-Version"}
	for set := 1; set < len(errs); set++ {
		var lacks []string
		for i, name := range names {
			if set&(1<<i) != 0 {
				lacks = append(lacks, name)
			}
		}
		errs[set] = &HandshakeError{Status: 400, Name: "incomplete", Reason: "The WebSocket handshake lacks " +
			strings.Join(lacks, ", ") + ", which a proxy may have dropped."}
	}
	return errs
}()

// CheckComplete judges whether a request has all header fields of a handshake, whatever their
// values; nil means that it does. The error names those that are missing. A request with none of
// them is not meant as a handshake.
func CheckComplete(h *Head) (err *HandshakeError, meant bool) {
	_, keys := h.find("Sec-WebSocket-Key")
	_, versions := h.find("Sec-WebSocket-Version")
	_, upgrades := h.find("Upgrade")
	lacks := 0
	if !h.hasToken("Upgrade", "websocket") {
		lacks |= lacksUpgrade
	}
	if !h.hasToken("Connection", "upgrade") {
		lacks |= lacksConnection
	}
	if keys == 0 {
		lacks |= lacksKey
	}
	if versions == 0 {
		lacks |= lacksVersion
	}
	return incomplete[lacks], upgrades+keys+versions > 0
}

// CheckUpgrade checks a complete head as a client's opening handshake (RFC 6455 §4.2.1). nil means
// that the server may accept it. The caller checks origin, path and authentication. Subprotocols
// and extensions are offers, which a server may ignore (§4.2.2 item 5).
func CheckUpgrade(h *Head) *HandshakeError {
	host, hosts := h.find("Host")
	key, keys := h.find("Sec-WebSocket-Key")
	version, versions := h.find("Sec-WebSocket-Version")
	incomplete, _ := CheckComplete(h)
	switch {
	case string(h.Method) != http.MethodGet:
		return ErrMethod
	case incomplete != nil:
		return incomplete
	case string(h.Proto) == http10:
		return ErrProto
	case !validTarget(h.Target):
		return ErrTarget
	case hosts != 1 || !validHost(host):
		return ErrHost
	case versions > 1:
		return ErrVersionRepeated
	case string(version) != "13":
		return ErrVersion
	case keys > 1:
		return ErrKeyRepeated
	case !validKey(key):
		return ErrKey
	}
	if _, n := h.find("Origin"); n > 1 {
		return ErrOriginRepeated
	}
	if h.hasBody() {
		return ErrBody
	}
	return nil
}

func validTarget(t []byte) bool {
	if bytes.IndexByte(t, '#') >= 0 {
		return false
	}
	if t[0] == '/' {
		return true
	}
	scheme, rest, ok := bytes.Cut(t, schemeEnd)
	return ok && (equalFold(scheme, "http") || equalFold(scheme, "https")) &&
		len(rest) > 0 && rest[0] != '/' && rest[0] != '?'
}

// validHost reports whether b has only characters of "uri-host [ ":" port ]" (RFC 3986 §3.2.2),
// which excludes lists, paths and user information.
func validHost(b []byte) bool {
	for _, c := range b {
		if c == '"' || c == '#' || c == ',' || c == '/' || c == '<' || c == '>' || c == '?' || c == '@' ||
			c == '\\' || c == '^' || c == '`' || '{' <= c && c <= '}' || c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return len(b) > 0
}

func validKey(key []byte) bool {
	const encoded = 24 // of 16 bytes
	if len(key) != encoded {
		return false
	}
	var b [encoded / 4 * 3]byte
	n, err := base64.StdEncoding.Decode(b[:], key)
	return err == nil && n == 16
}

func (h *Head) hasBody() bool {
	if _, n := h.find("Transfer-Encoding"); n > 0 {
		return true
	}
	length, _ := h.find("Content-Length")
	return len(bytes.Trim(length, "0")) > 0
}

// AppendUpgrade appends the response that accepts the handshake h, after CheckUpgrade returned nil
// (RFC 6455 §4.2.2 item 5). extra, if not nil, appends further complete field lines. The response
// selects no subprotocol and no extension.
func AppendUpgrade(dst []byte, h *Head, extra func(dst []byte) []byte) []byte {
	return AppendUpgradeDeflate(dst, h, "", extra)
}

// AppendUpgradeDeflate is AppendUpgrade with the result of NegotiateDeflate; "" is no compression.
func AppendUpgradeDeflate(dst []byte, h *Head, answer string, extra func(dst []byte) []byte) []byte {
	dst = append(dst, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "...)
	dst = AppendAccept(dst, h.Get("Sec-WebSocket-Key"))
	dst = append(dst, "\r\n"...)
	dst = append(dst, answer...)
	if extra != nil {
		dst = extra(dst)
	}
	return append(dst, "\r\n"...)
}

// AppendAccept appends the Sec-WebSocket-Accept value for a Sec-WebSocket-Key (RFC 6455 §4.2.2 item
// 5.4).
func AppendAccept(dst, key []byte) []byte {
	const guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
	var b [24 + len(guid)]byte
	sum := sha1.Sum(append(append(b[:0], key...), guid...))
	return base64.StdEncoding.AppendEncode(dst, sum[:])
}

// AppendHTTPError appends a whole HTTP/1.1 response that rejects a request, with Connection: close.
// header has zero or more complete field lines, each with its CR LF; body is plain text unless
// header has a Content-Type.
func AppendHTTPError(dst []byte, status int, header, body string) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(dst, ' ')
	dst = append(dst, http.StatusText(status)...)
	if body != "" && !hasContentType(header) {
		dst = append(dst, "\r\nContent-Type: text/plain; charset=utf-8"...)
	}
	dst = append(dst, "\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(body)), 10)
	dst = append(dst, "\r\nConnection: close\r\n"...)
	dst = append(dst, header...)
	dst = append(dst, "\r\n"...)
	return append(dst, body...)
}

func hasContentType(header string) bool {
	const name = "Content-Type:"
	for line := range strings.Lines(header) {
		if len(line) >= len(name) && strings.EqualFold(line[:len(name)], name) {
			return true
		}
	}
	return false
}
