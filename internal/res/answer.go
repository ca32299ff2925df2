package res

import (
	"net/textproto"
	"strings"

	"github.com/valyala/fastjson"
)

// What a client is told when a service's answer is none (RES.md 3.1).
var (
	errInvalidResponse = invalidAnswer("invalid service response")
	errMissingResult   = invalidAnswer("response missing result")
)

// Meta is what an answer says about the HTTP response that it leads to (RES.md sections 3.1 and 4). Which statuses and
// fields count is the HTTP side's business.
type Meta struct {
	Status int // 0: not said
	// Header has canonical names; names and values are such that they can stand in an HTTP message (RFC 9110 section 5).
	Header map[string][]string
}

// answer is an answer's envelope.
type answer struct {
	result, resource []byte // raw
	meta             *Meta
	err              *Error // the service's, or that the envelope is invalid
}

// answer reads the envelope of a service's answer. An error wins over everything else, so the other members need not
// make sense then.
func (p *Parser) answer(payload []byte) (a answer) {
	b, err := p.open(payload)
	if err != nil || !isObject(b) {
		a.err = errInvalidResponse
		return a
	}
	var fault, meta []byte
	for w := (walk{text: b}); w.next(); {
		switch string(w.key) {
		case "result":
			a.result = w.value
		case "resource":
			a.resource = w.value
		case "error":
			fault = w.value
		case "meta":
			meta = w.value
		}
	}
	ok := true
	if !isNone(meta) {
		a.meta, ok = readMeta(p.tree(meta))
	}
	switch {
	case !isNone(fault):
		a.err = p.readError(fault)
	case !ok:
		a.err = errInvalidResponse
	}
	return a
}

// readError reads an error object of a service. One without a code is no answer that a client can act on: it becomes a
// system.internalError whose data has what the service said, {"message":"…","data":…}, each if there is any.
func (p *Parser) readError(b []byte) *Error {
	v := p.tree(b)
	o := object(v)
	if o == nil {
		if said, ok := text(v); ok { // an error that is a bare string
			return p.withoutCode(said, nil)
		}
		return errInvalidResponse
	}
	var code, message, data *fastjson.Value
	o.Visit(func(key []byte, v *fastjson.Value) {
		switch string(key) {
		case "code":
			code = v
		case "message":
			message = v
		case "data":
			data = v
		}
	})
	c, ok1 := text(code)
	m, ok2 := optText(message)
	if !ok1 || !ok2 || len(c) == 0 {
		return p.withoutCode(m, data)
	}
	p.buf = append(append(p.buf[:0], c...), m...)
	p.buf = appendText(p.buf, data)
	s := string(p.buf)
	return &Error{Code: s[:len(c)], Message: s[len(c) : len(c)+len(m)], Data: s[len(c)+len(m):]}
}

// withoutCode makes the error that stands for a service's error without a code.
func (p *Parser) withoutCode(message []byte, data *fastjson.Value) *Error {
	raw := appendText(nil, data)
	if len(message) == 0 && len(raw) == 0 {
		return errInvalidResponse
	}
	b := append(p.buf[:0], '{')
	if len(message) > 0 {
		b = append(b, `"message":`...)
		b = AppendString(b, view(message))
	}
	if len(raw) > 0 {
		if len(message) > 0 {
			b = append(b, ',')
		}
		b = append(append(b, `"data":`...), raw...)
	}
	p.buf = append(b, '}')
	e := *errInvalidResponse
	e.Data = string(p.buf)
	return &e
}

// readMeta reads a meta object.
func readMeta(v *fastjson.Value) (m *Meta, ok bool) {
	o := object(v)
	if o == nil {
		return nil, false
	}
	var status, header *fastjson.Value
	o.Visit(func(key []byte, v *fastjson.Value) {
		switch string(key) {
		case "status":
			status = v
		case "header":
			header = v
		}
	})
	m = &Meta{}
	if !isNull(status) {
		n, err := status.Int()
		if err != nil {
			return nil, false
		}
		m.Status = n
	}
	if isNull(header) {
		return m, true
	}
	h := object(header)
	if h == nil {
		return nil, false
	}
	m.Header = make(map[string][]string, h.Len())
	ok = true
	h.Visit(func(key []byte, v *fastjson.Value) {
		values, good := texts(v)
		ok = ok && good && validFieldName(key)
		for _, s := range values {
			ok = ok && validFieldValue(s)
		}
		if ok {
			k := textproto.CanonicalMIMEHeaderKey(string(key))
			m.Header[k] = append(m.Header[k], values...)
		}
	})
	return m, ok
}

// validFieldName is RFC 9110 section 5.1: a token of section 5.6.2.
func validFieldName(b []byte) bool {
	for _, c := range b {
		alnum := c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9'
		if !alnum && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return len(b) > 0
}

// validFieldValue is RFC 9110 section 5.5: no control characters but the tab, so nothing that could end the field.
func validFieldValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7F {
			return false
		}
	}
	return true
}

// AccessResult is what a client may do with a resource (RES.md 3.3).
type AccessResult struct {
	Get  bool
	Call string // method names joined by commas, or "*" for all
}

// CanCall tells whether the method may be called. It does not allocate.
func (a AccessResult) CanCall(method string) bool {
	if a.Call == "*" {
		return true
	}
	for rest, more := a.Call, a.Call != ""; more; {
		var m string
		if m, rest, more = strings.Cut(rest, ","); m == method {
			return true
		}
	}
	return false
}

// Access reads the answer to an access request. The error is the service's, or a system.internalError if the answer is
// none. Meta is nil if there is none; it may come with an error.
func (p *Parser) Access(payload []byte) (AccessResult, *Meta, *Error) {
	defer p.done()
	a := p.answer(payload)
	switch {
	case a.err != nil:
		return AccessResult{}, a.meta, a.err
	case isNone(a.result):
		return AccessResult{}, a.meta, errMissingResult
	}
	o := object(p.tree(a.result))
	if o == nil {
		return AccessResult{}, a.meta, errInvalidResponse
	}
	var get, call *fastjson.Value
	o.Visit(func(key []byte, v *fastjson.Value) {
		switch string(key) {
		case "get":
			get = v
		case "call":
			call = v
		}
	})
	g, ok1 := optBool(get)
	c, ok2 := optText(call)
	if !ok1 || !ok2 {
		return AccessResult{}, a.meta, errInvalidResponse
	}
	r := AccessResult{Get: g, Call: "*"}
	if string(c) != "*" {
		r.Call = string(c)
	}
	return r, a.meta, nil
}

// GetResult is a resource: a model or a collection, never both.
type GetResult struct {
	IsModel, IsCollection bool
	Props                 []Prop  // of a model: sorted by key, each key once
	Values                []Value // of a collection
	Query                 string  // the normalised query, empty if the service gave none
}

// Get reads the answer to a get request. The error is the service's, or a system.internalError if the answer is none, has
// neither or both of model and collection, or holds an improper value (RES.md 3.1).
func (p *Parser) Get(payload []byte) (GetResult, *Error) {
	defer p.done()
	a := p.answer(payload)
	switch {
	case a.err != nil:
		return GetResult{}, a.err
	case isNone(a.result):
		return GetResult{}, errMissingResult
	}
	r, _, err := p.resource(a.result)
	if err != nil {
		return GetResult{}, err
	}
	if !r.IsModel && !r.IsCollection {
		return GetResult{}, errInvalidResponse
	}
	return r, nil
}

// resource reads the result of an answer that can hold a model, a collection or, to a query request, events, which are
// returned raw, nil if there are none.
func (p *Parser) resource(result []byte) (r GetResult, events []byte, err *Error) {
	if !isObject(result) {
		return r, nil, errInvalidResponse
	}
	var model, collection, query []byte
	for w := (walk{text: result}); w.next(); {
		switch string(w.key) {
		case "model":
			model = w.value
		case "collection":
			collection = w.value
		case "query":
			query = w.value
		case "events":
			events = w.value
		}
	}
	if isNone(events) {
		events = nil
	}
	if !isNone(query) {
		if !isString(query) {
			return r, nil, errInvalidResponse
		}
		r.Query = string(content(p.buf[:0], query))
	}
	var e error
	switch {
	case !isNone(model):
		if !isObject(model) || !isNone(collection) {
			return r, nil, errInvalidResponse
		}
		r.IsModel = true
		r.Props, e = p.props(model, false)
	case !isNone(collection):
		if !isArray(collection) {
			return r, nil, errInvalidResponse
		}
		r.IsCollection = true
		r.Values, e = p.values(collection)
	}
	if e != nil {
		return r, nil, invalidAnswer(e.Error())
	}
	return r, events, nil
}

// CallResult is the answer to a call or auth request: a resource, or else a payload.
type CallResult struct {
	RID string // valid; empty if the answer is a payload
	// Payload is raw compact JSON, not nil if RID is empty; valid until the next Call of the same Parser.
	Payload []byte
	// Legacy: the resource came in the old form of a call of method "new". Log a deprecation once per resource name.
	Legacy bool
}

// Call reads the answer to a call or auth request. method is that of a call, and empty for auth: a call of "new" whose
// result is exactly {"rid":"…"} is a resource answer (RES.md 3.1). The error is the service's, or a
// system.internalError if the answer is none. Meta is nil if there is none; it may come with an error.
func (p *Parser) Call(payload []byte, method string) (CallResult, *Meta, *Error) {
	defer p.done()
	a := p.answer(payload)
	switch {
	case a.err != nil:
		return CallResult{}, a.meta, a.err
	case !isNone(a.resource):
		rid, n := p.ridOf(a.resource)
		if n == 0 || !ValidRID(rid) {
			return CallResult{}, a.meta, errInvalidResponse
		}
		return CallResult{RID: rid}, a.meta, nil
	case a.result == nil:
		return CallResult{}, a.meta, errMissingResult
	}
	if method == "new" {
		if rid, n := p.ridOf(a.result); n == 1 {
			if !ValidRID(rid) {
				return CallResult{}, a.meta, errInvalidResponse
			}
			return CallResult{RID: rid, Legacy: true}, a.meta, nil
		}
	}
	p.out = p.appendRaw(reuse(p.out), a.result)
	return CallResult{Payload: p.out}, a.meta, nil
}

// ridOf reads {"rid":"…"}: the rid, not checked, and how many members the object has, 0 if it is no such object.
func (p *Parser) ridOf(b []byte) (rid string, members int) {
	if !isObject(b) {
		return "", 0
	}
	var raw []byte
	n := 0
	for w := (walk{text: b}); w.next(); n++ {
		if string(w.key) == "rid" {
			raw = w.value
		}
	}
	if !isString(raw) {
		return "", 0
	}
	return string(content(p.buf[:0], raw)), n
}
