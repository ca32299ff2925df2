package res

import (
	"bytes"
	"errors"

	"sluice/internal/intern"
)

// ErrNoID is the error of a request that gets no response, since it has no valid ID (RES.md 2.1):
// log it at debug level and count it. A message that is not JSON is ErrMalformed.
var ErrNoID = errors.New("request without an id that is a number")

// maxID bounds the length, in bytes, of a request's ID, which the response repeats. A longer one is
// ErrNoID.
const maxID = 64

// RequestType is the type of a client's request (RES.md 2.1).
type RequestType uint8

// Types of requests.
const (
	VersionRequest RequestType = iota
	Subscribe
	Unsubscribe
	Get
	Call
	Auth
	New // deprecated: a call of method "new" whose result must be a resource

	requestTypes
)

var requestNames = [requestTypes]string{"version", "subscribe", "unsubscribe", "get", "call", "auth", "new"}

// String is the type as it is written in a request's method.
func (t RequestType) String() string {
	if t < requestTypes {
		return requestNames[t]
	}
	return "unknown"
}

// Request is a client's request. The caller owns its strings, which share one allocation unless
// they are in Parser.Interned.
type Request struct {
	ID     string // raw JSON number, repeated in the response
	Type   RequestType
	RID    string // valid, {cid} not expanded; empty for VersionRequest
	Method string // the method part of Call and Auth, "new" for New, else empty
	// Params is raw compact JSON, nil if absent; valid until the next Request or View of the same
	// Parser.
	Params []byte
}

// RequestView is a Request without allocations. Its bytes are valid until the next Request or View
// of the same Parser. Call Own to retain it longer.
type RequestView struct {
	ID     []byte
	Type   RequestType
	RID    []byte
	Method []byte
	Params []byte

	text []byte // ID, RID and Method, contiguous in this order
}

// sharedID is the length, in bytes, up to which a request ID is likely to be another client's, too:
// they count from 1.
const sharedID = 3

// Own returns the view as a Request. Its strings share one allocation, or are those of known.
// Params are not copied.
func (v *RequestView) Own(known *intern.Cache) Request {
	id, rid := len(v.ID), len(v.ID)+len(v.RID)
	r := Request{Type: v.Type, Params: v.Params}
	if known == nil {
		s := string(v.text)
		r.ID, r.RID, r.Method = s[:id], s[id:rid], s[rid:]
		return r
	}
	if id > sharedID {
		r.ID = string(v.ID)
	} else {
		r.ID = known.Of(v.ID)
	}
	s := known.Of(v.text[id:])
	r.RID, r.Method = s[:rid-id], s[rid-id:]
	return r
}

// Request reads a client's message into r. If the error is an *Error (system.invalidRequest),
// respond with it to r.ID. Any other error (ErrMalformed, ErrNoID) has no response (RES.md 2.1).
// Request allocates once, and nothing for strings that p.Interned has.
func (p *Parser) Request(msg []byte, r *Request) error {
	var v RequestView
	err := p.View(msg, &v)
	*r = v.Own(p.Interned)
	return err
}

// View is Request without allocations.
func (p *Parser) View(msg []byte, r *RequestView) error {
	*r = RequestView{}
	defer p.done()
	msg, err := p.open(msg)
	if err != nil {
		return err
	}
	if !isObject(msg) {
		return ErrNoID
	}
	var id, method, params []byte
	for w := (walk{text: msg}); w.next(); {
		switch string(w.key) {
		case "id":
			id = w.value
		case "method":
			method = w.value
		case "params":
			params = w.value
		}
	}
	if !isNumber(id) || len(id) > maxID {
		return ErrNoID
	}
	if p.Yield != nil {
		p.Yield()
	}
	b := append(reuse(p.req), id...)
	n := len(b)
	rerr := ErrInvalidRequest
	if isString(method) {
		b, rerr = r.split(b, content(p.buf[:0], method))
	}
	end := len(b)
	b = p.appendRaw(b, params)
	p.req = b

	// Slice last: append may have moved the bytes.
	r.text = b[:end:end]
	r.ID = b[:n:n]
	if rerr != nil {
		r.text = r.ID
		return rerr
	}
	rid := end - len(r.Method)
	r.RID, r.Method = b[n:rid:rid], b[rid:end:end]
	if params != nil {
		r.Params = b[end:len(b):len(b)]
	}
	return nil
}

// split parses a request's method, <type>.<rid>[.<method>]. The type ends at the first dot. The
// method part of Call and Auth begins after the last dot, even if that is in a query. split appends
// rid and method part to b. It sets r.Method for its length only; View slices it from b.
func (r *RequestView) split(b, m []byte) ([]byte, *Error) {
	kind, rest, dotted := bytes.Cut(m, []byte{'.'})
	known := false
	for t, name := range requestNames {
		if string(kind) == name {
			r.Type, known = RequestType(t), true
			break
		}
	}
	if !known || dotted == (r.Type == VersionRequest) {
		return b, ErrInvalidRequest
	}
	rid := rest
	switch r.Type {
	case VersionRequest:
		return b, nil
	case Call, Auth:
		dot := bytes.LastIndexByte(rest, '.')
		if dot < 0 || !ValidPart(view(rest[dot+1:])) {
			return b, ErrInvalidRequest
		}
		rid, r.Method = rest[:dot], rest[dot+1:]
	case New:
		r.Method = newMethod
	}
	if !ValidRID(view(rid)) {
		return b, ErrInvalidRequest
	}
	return append(append(b, rid...), r.Method...), nil
}

var newMethod = []byte("new")

// VersionParams reads the params of a version request (RES.md 2.1): the client's protocol version,
// for ParseVersion. present reports whether params has one.
func (p *Parser) VersionParams(params []byte) (protocol string, present bool, err *Error) {
	defer p.done()
	v, err := p.param(params, "protocol")
	switch {
	case err != nil:
		return "", false, err
	case !isNone(v) && !isString(v):
		return "", false, errProtocol
	case isNone(v):
		return "", false, nil
	}
	return p.Interned.Of(content(p.buf[:0], v)), true, nil
}

// WantsLost reports whether the params of a version request have the member "eventsLost" with the
// value true: our extension by which a client gets a notice of dropped custom events.
func (p *Parser) WantsLost(params []byte) bool {
	defer p.done()
	v, err := p.param(params, "eventsLost")
	return err == nil && string(v) == "true"
}

// UnsubscribeCount reads the params of an unsubscribe request: how many direct subscriptions to
// release, 1 if absent (RES.md 2.1). A larger count than 2^31-1 saturates.
func (p *Parser) UnsubscribeCount(params []byte) (int, *Error) {
	defer p.done()
	v, err := p.param(params, "count")
	switch {
	case err != nil:
		return 0, err
	case isNone(v):
		return 1, nil
	}
	n, ok := digits(v)
	if !ok || n == 0 {
		return 0, errCount
	}
	return int(min(n, maxCount)), nil
}

// maxOptions bounds the params of requests that have none but options, in bytes.
const maxOptions = 64 << 10

// param returns a member of params, which are absent, null or an object of at most maxOptions
// bytes.
func (p *Parser) param(params []byte, name string) (raw []byte, err *Error) {
	if len(params) == 0 {
		return nil, nil
	}
	if len(params) > maxOptions {
		return nil, errTooLong
	}
	b, malformed := p.open(params)
	switch {
	case malformed != nil:
		return nil, ErrInvalidParams
	case isObject(b):
	case b[0] == 'n':
		return nil, nil
	default:
		return nil, errNoObject
	}
	for w := (walk{text: b}); w.next(); {
		if string(w.key) == name {
			raw = w.value
		}
	}
	return raw, nil
}
