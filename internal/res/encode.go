package res

import (
	"net/textproto"
	"slices"
	"strings"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// AppendString appends s as a JSON string. Invalid UTF-8 becomes U+FFFD, so the result is always
// valid.
func AppendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c < utf8.RuneSelf && c != '"' && c != '\\' {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r != utf8.RuneError || n != 1 {
				i += n
				continue
			}
		}
		dst = append(dst, s[from:i]...)
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		case c == '\t':
			dst = append(dst, '\\', 't')
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xF])
		default:
			dst = append(dst, "\ufffd"...)
		}
		i++
		from = i
	}
	dst = append(dst, s[from:]...)
	return append(dst, '"')
}

// AppendResult appends the response to a client's request (RES.md 2.1). id and result are raw JSON;
// a nil result is omitted.
func AppendResult(dst []byte, id string, result []byte) []byte {
	dst = append(dst, '{')
	if result != nil {
		dst = append(dst, `"result":`...)
		dst = append(dst, result...)
		dst = append(dst, ',')
	}
	return AppendID(dst, id)
}

// AppendID appends the id member and the closing brace of a response that the caller writes in
// pieces, after {"result":… and a comma.
func AppendID(dst []byte, id string) []byte {
	dst = append(dst, `"id":`...)
	dst = append(dst, id...)
	return append(dst, '}')
}

// AppendError appends the error response to a client's request (RES.md 2.1). id is raw JSON.
func AppendError(dst []byte, id string, e *Error) []byte {
	dst = append(dst, `{"error":`...)
	dst = e.AppendJSON(dst)
	dst = append(dst, ',')
	return AppendID(dst, id)
}

// AppendEvent appends an event for a client (RES.md 2.1). data is raw JSON; nil is omitted.
func AppendEvent(dst []byte, rid, event string, data []byte) []byte {
	dst = AppendEventStart(dst, rid, event)
	if data != nil {
		dst = append(dst, `,"data":`...)
		dst = append(dst, data...)
	}
	return append(dst, '}')
}

// AppendEventStart appends an event up to its name. The caller appends ,"data":… if there is data,
// and the closing brace.
func AppendEventStart(dst []byte, rid, event string) []byte {
	dst = append(dst, `{"event":`...)
	dst = AppendString(dst, rid)
	// The dot replaces the closing quote of the rid and the opening quote of the name.
	at := len(dst) - 1
	dst = AppendString(dst[:at], event)
	dst[at] = '.'
	return dst
}

// AppendAccessRequest appends the payload of a request to access.<name> (RES.md 3.1). token is raw
// JSON; an empty one is encoded as null. An empty query is omitted.
func AppendAccessRequest(dst []byte, cid, token, query string, isHTTP bool) []byte {
	return append(appendMembers(append(dst, '{'), CallRequest{CID: cid, Token: token, Query: query, IsHTTP: isHTTP}), '}')
}

// AppendGetRequest appends the payload of a request to get.<name> (RES.md 3.1). An empty query is
// omitted.
func AppendGetRequest(dst []byte, query string) []byte {
	if query == "" {
		return append(dst, '{', '}')
	}
	return AppendQueryRequest(dst, query)
}

// AppendQueryRequest appends the payload of a request to the subject of a query event (RES.md 3.2).
func AppendQueryRequest(dst []byte, query string) []byte {
	dst = append(dst, `{"query":`...)
	dst = AppendString(dst, query)
	return append(dst, '}')
}

// CallRequest is the payload of a request to call.<name>.<method> (RES.md 3.1). Params and token
// are always present, null if empty, since services in dynamic languages rely on the keys. An empty
// query is omitted.
type CallRequest struct {
	CID    string
	Token  string // raw JSON
	Query  string
	Params []byte // raw JSON
	IsHTTP bool
}

// AppendCallRequest appends the payload of a request to call.<name>.<method>.
func AppendCallRequest(dst []byte, r CallRequest) []byte {
	return append(appendMembers(appendParams(dst, r.Params), r), '}')
}

// appendParams appends the opening brace, params and a comma.
func appendParams(dst, params []byte) []byte {
	dst = append(dst, `{"params":`...)
	if len(params) == 0 {
		dst = append(dst, "null"...)
	}
	return append(append(dst, params...), ',')
}

// appendMembers appends the members that access, call and auth requests have in common.
func appendMembers(dst []byte, r CallRequest) []byte {
	dst = append(dst, `"token":`...)
	if r.Token == "" {
		dst = append(dst, "null"...)
	}
	dst = append(dst, r.Token...)
	if r.Query != "" {
		dst = append(dst, `,"query":`...)
		dst = AppendString(dst, r.Query)
	}
	dst = append(dst, `,"cid":`...)
	dst = AppendString(dst, r.CID)
	if r.IsHTTP {
		dst = append(dst, `,"isHttp":true`...)
	}
	return dst
}

// AuthRequest is the payload of a request to auth.<name>.<method>, or to the subject of a token
// reset. It adds members of the client's HTTP request to those of a call; empty ones are omitted
// (RES.md 3.1).
type AuthRequest struct {
	CallRequest
	// NoParams omits params: header authentication and token resets have none.
	NoParams bool
	// Header is the raw JSON object that AppendHeader encodes: one allocation for the life of a
	// connection.
	Header     string
	Host       string
	RemoteAddr string
	URI        string
}

// AppendAuthRequest appends the payload of a request to auth.<name>.<method>.
func AppendAuthRequest(dst []byte, r AuthRequest) []byte {
	if r.NoParams {
		dst = append(dst, '{')
	} else {
		dst = appendParams(dst, r.Params)
	}
	dst = appendMembers(dst, r.CallRequest)
	if r.Header != "" {
		dst = append(dst, `,"header":`...)
		dst = append(dst, r.Header...)
	}
	for _, m := range [...]struct{ name, value string }{{"host", r.Host}, {"remoteAddr", r.RemoteAddr}, {"uri", r.URI}} {
		if m.value != "" {
			dst = append(dst, ',')
			dst = AppendString(dst, m.name)
			dst = append(dst, ':')
			dst = AppendString(dst, m.value)
		}
	}
	return append(dst, '}')
}

// AppendHeader appends header fields as the JSON object of an AuthRequest: canonical names in
// alphabetical order, each with an array of its values in their order in the request. Host is
// omitted: AuthRequest has it. each calls f for every field; f does not retain its arguments.
// AppendHeader allocates, so it is not for the path of an event.
func AppendHeader(dst []byte, each func(f func(name, value []byte))) []byte {
	type field struct{ name, value string }
	var fields []field
	each(func(name, value []byte) {
		if n := textproto.CanonicalMIMEHeaderKey(string(name)); n != "Host" {
			fields = append(fields, field{n, string(value)})
		}
	})
	slices.SortStableFunc(fields, func(a, b field) int { return strings.Compare(a.name, b.name) })
	dst = append(dst, '{')
	for i, f := range fields {
		switch {
		case i > 0 && f.name == fields[i-1].name:
			dst = append(dst, ',')
		case i > 0:
			dst = append(dst, ']', ',')
			fallthrough
		default:
			dst = AppendString(dst, f.name)
			dst = append(dst, ':', '[')
		}
		dst = AppendString(dst, f.value)
	}
	if len(fields) > 0 {
		dst = append(dst, ']')
	}
	return append(dst, '}')
}
