package res

import (
	"bytes"
	"errors"
)

// Requests that get no answer, because there is no ID to answer to (RES.md 2.1): log at debug level and count. A message
// that is not JSON at all is ErrMalformed.
var ErrNoID = errors.New("request without an id that is a number")

// maxID bounds the text of a request's ID, which is echoed. A longer one counts as none.
const maxID = 64

// RequestType is what a client asks for (RES.md 2.1).
type RequestType uint8

// Types of requests.
const (
	VersionRequest RequestType = iota
	Subscribe
	Unsubscribe
	Get
	Call
	Auth
	New // deprecated: a call of method "new" that must yield a resource

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

// Request is a client's request. Its strings are owned and share one allocation.
type Request struct {
	ID     string // raw JSON number, to be echoed
	Type   RequestType
	RID    string // valid, as the client wrote it ({cid} included); empty for VersionRequest
	Method string // the method part of Call and Auth, "new" for New, else empty
	// Params is raw compact JSON, nil if absent; valid until the next Request or View of the same Parser.
	Params []byte
}

// RequestView is a Request of which nothing was allocated: all its bytes are valid until the next Request or View of the
// same Parser. Own what outlives that.
type RequestView struct {
	ID     []byte
	Type   RequestType
	RID    []byte
	Method []byte
	Params []byte

	text []byte // ID, RID and Method in one piece, in this order
}

// Own makes a Request of a view: one allocation for its strings. Params stay as they are.
func (v *RequestView) Own() Request {
	s := string(v.text)
	id, rid := len(v.ID), len(v.ID)+len(v.RID)
	return Request{ID: s[:id], Type: v.Type, RID: s[id:rid], Method: s[rid:], Params: v.Params}
}

// Request reads a client's message into r. If the error is an *Error (system.invalidRequest), it is the answer to r.ID;
// any other means that there is nobody to answer: ErrMalformed, ErrNoID (RES.md 2.1). It allocates once.
func (p *Parser) Request(msg []byte, r *Request) error {
	var v RequestView
	err := p.View(msg, &v)
	*r = v.Own()
	return err
}

// View is Request without an allocation.
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
	b := append(reuse(p.req), id...)
	n := len(b)
	rerr := ErrInvalidRequest
	if isString(method) {
		b, rerr = r.split(b, content(p.buf[:0], method))
	}
	end := len(b)
	b = p.appendRaw(b, params)
	p.req = b

	// Cut only now: appending may have moved the bytes.
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

// split reads the text of a request's method, <type>.<rid>[.<method>]: the type ends at the first dot, the method part of
// Call and Auth begins after the last one, also if that is in a query. It appends rid and method part to b; r.Method has
// the right length, but not yet its place.
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

// VersionParams reads the params of a version request (RES.md 2.1): the protocol that the client states, for
// ParseVersion. present is false if it states none, which includes no params at all.
func (p *Parser) VersionParams(params []byte) (protocol string, present bool, err *Error) {
	defer p.done()
	v, ok := p.param(params, "protocol")
	switch {
	case !ok || !isNone(v) && !isString(v):
		return "", false, ErrInvalidParams
	case isNone(v):
		return "", false, nil
	}
	return string(content(p.buf[:0], v)), true, nil
}

// UnsubscribeCount reads the params of an unsubscribe request: how many direct subscriptions to give up, 1 if not said
// (RES.md 2.1). What is above 2^31-1 is returned as 2^31-1.
func (p *Parser) UnsubscribeCount(params []byte) (int, *Error) {
	defer p.done()
	v, ok := p.param(params, "count")
	switch {
	case !ok:
		return 0, ErrInvalidParams
	case isNone(v):
		return 1, nil
	}
	n, ok := digits(v)
	if !ok || n == 0 {
		return 0, ErrInvalidParams
	}
	return int(min(n, maxCount)), nil
}

// param returns a member of params, which may be absent or null, else must be an object.
func (p *Parser) param(params []byte, name string) (raw []byte, ok bool) {
	if len(params) == 0 {
		return nil, true
	}
	b, err := p.open(params)
	if err != nil {
		return nil, false
	}
	if !isObject(b) {
		return nil, b[0] == 'n'
	}
	for w := (walk{text: b}); w.next(); {
		if string(w.key) == name {
			raw = w.value
		}
	}
	return raw, true
}
