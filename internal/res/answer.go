package res

import (
	"net/textproto"
	"strings"

	"github.com/valyala/fastjson"
)

// The errors that a client receives if a service's reply is invalid (RES.md 3.1).
var (
	errInvalidResponse = invalidAnswer("invalid service response")
	errMissingResult   = invalidAnswer("response missing result")
)

// Meta is what a service's reply sets of the HTTP response (RES.md sections 3.1 and 4). The HTTP
// side decides which statuses and fields it honours.
type Meta struct {
	Status int // 0 if absent
	// Header has canonical names. Names and values are valid in an HTTP message (RFC 9110 section
	// 5).
	Header map[string][]string
}

// answer is the envelope of a service's reply.
type answer struct {
	result, resource []byte // raw
	meta             *Meta
	err              *Error // the service's error, or errInvalidResponse
}

// maxMeta bounds the text of a meta object, in bytes: no HTTP client takes a longer head, and a
// tree of megabytes would stop the loop for seconds.
const maxMeta = 64 << 10

// answer reads the envelope of a service's reply. An error takes precedence over the other members,
// which need not be valid then.
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
		if ok = len(meta) <= maxMeta; ok {
			a.meta, ok = readMeta(p.tree(meta))
		}
	}
	switch {
	case !isNone(fault):
		a.err = p.readError(fault)
	case !ok:
		a.err = errInvalidResponse
	}
	return a
}

// readError reads a service's error object. A client cannot act on an error without a code: it
// becomes a system.internalError whose data is {"message":"…","data":…} with the members that the
// service sent.
func (p *Parser) readError(b []byte) *Error {
	switch {
	case isString(b): // a bare string
		return p.withoutCode(content(nil, b), nil)
	case !isObject(b):
		return errInvalidResponse
	}
	var code, message, data []byte
	for w := (walk{text: b}); w.next(); {
		switch string(w.key) {
		case "code":
			code = w.value
		case "message":
			message = w.value
		case "data":
			data = w.value
		}
	}
	var m []byte
	if isString(message) {
		m = content(nil, message)
	}
	if !isString(code) || len(code) == len(`""`) || !isNone(message) && !isString(message) {
		return p.withoutCode(m, data)
	}
	p.buf = append(p.buf[:0], content(nil, code)...)
	c := len(p.buf)
	p.buf = append(p.buf, m...)
	if !isNone(data) {
		p.buf = p.appendRaw(p.buf, data)
	}
	s := string(p.buf)
	return &Error{Code: s[:c], Message: s[c : c+len(m)], Data: s[c+len(m):]}
}

// withoutCode returns the system.internalError that replaces a service's error without a code.
func (p *Parser) withoutCode(message, data []byte) *Error {
	var raw []byte
	if !isNone(data) {
		raw = p.appendRaw(nil, data)
	}
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

// validFieldName reports whether b is a field name (RFC 9110 section 5.1): a token of section
// 5.6.2.
func validFieldName(b []byte) bool {
	for _, c := range b {
		alnum := c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9'
		if !alnum && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return len(b) > 0
}

// validFieldValue reports whether s has no control character but the tab, and so cannot end the
// field (RFC 9110 section
// 5.5).
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

// CanCall reports whether the method may be called. It does not allocate.
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

// Access reads the reply to an access request. The error is the service's, or a
// system.internalError if the reply is invalid. Meta is nil if absent; it may accompany an error.
func (p *Parser) Access(payload []byte) (AccessResult, *Meta, *Error) {
	defer p.done()
	a := p.answer(payload)
	switch {
	case a.err != nil:
		return AccessResult{}, a.meta, a.err
	case isNone(a.result):
		return AccessResult{}, a.meta, errMissingResult
	}
	if !isObject(a.result) {
		return AccessResult{}, a.meta, errInvalidResponse
	}
	var get, call []byte
	for w := (walk{text: a.result}); w.next(); {
		switch string(w.key) {
		case "get":
			get = w.value
		case "call":
			call = w.value
		}
	}
	g := string(get) == "true"
	if !g && !isNone(get) && string(get) != "false" || !isNone(call) && !isString(call) {
		return AccessResult{}, a.meta, errInvalidResponse
	}
	var c []byte
	if isString(call) {
		c = content(p.buf[:0], call)
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
	Query                 string  // the normalised query, empty if absent
}

// Get reads the reply to a get request. The error is the service's, or a system.internalError if
// the reply is invalid, has neither or both of model and collection, or has an invalid value
// (RES.md 3.1).
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

// resource reads a result that has a model, a collection or, for a query request, events. It
// returns the events raw, nil if absent.
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

// CallResult is the result of a call or auth request: a resource ID or a payload.
type CallResult struct {
	RID string // valid; empty if the result is a payload
	// Payload is raw compact JSON, not nil if RID is empty; valid until the next Call of the same
	// Parser.
	Payload []byte
	// Legacy reports whether RID came in the deprecated form for method "new". Log a deprecation
	// once per resource name.
	Legacy bool
}

// Call reads the reply to a call or auth request. method is empty for auth. For a call of "new",
// the result {"rid":"…"} with no other member is a resource ID (RES.md 3.1). The error is the
// service's, or a system.internalError if the reply is invalid. Meta is nil if absent; it may
// accompany an error.
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

// ridOf reads {"rid":"…"}. It returns the rid, not validated, and the number of members, 0 if b has
// no such form.
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
