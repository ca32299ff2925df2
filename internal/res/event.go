package res

import (
	"strings"

	"github.com/valyala/fastjson"
)

// Change reads the payload of a change event: properties sorted by key, each key once, which may be
// delete actions (RES.md 3.2). legacy reports whether the payload has the form of RES 1.0, without
// "values": log a deprecation once per resource name. As in Resgate, the current form has "values"
// as its only member, and that is an object.
func (p *Parser) Change(payload []byte) (props []Prop, legacy bool, err error) {
	defer p.done()
	b, err := p.open(payload)
	if err != nil {
		return nil, false, err
	}
	if !isObject(b) {
		return nil, false, ErrForm
	}
	w := walk{text: b}
	if w.next() && string(w.key) == "values" && isObject(w.value) {
		values := w.value
		if !w.next() {
			props, err = p.props(values, true)
			return props, false, err
		}
	}
	props, err = p.props(b, true)
	return props, true, err
}

// Add reads the payload of an add event. The owner of the collection checks the index against its
// length. The error is ErrIndex if the index is missing, negative, not a whole number in plain
// digits, or above 2^31-1.
func (p *Parser) Add(payload []byte) (idx int, v Value, err error) {
	defer p.done()
	idx, value, err := p.indexed(payload)
	if err != nil {
		return 0, Value{}, err
	}
	if value == nil {
		return 0, Value{}, ErrForm
	}
	p.buf = p.buf[:0]
	c, err := p.gather(value)
	if err != nil {
		return 0, Value{}, err
	}
	if c.kind == Delete {
		return 0, Value{}, errDelete
	}
	return idx, c.value(string(p.buf)), nil
}

// Remove reads the payload of a remove event. Its errors are those of Add.
func (p *Parser) Remove(payload []byte) (idx int, err error) {
	defer p.done()
	idx, _, err = p.indexed(payload)
	return idx, err
}

func (p *Parser) indexed(payload []byte) (idx int, value []byte, err error) {
	b, err := p.open(payload)
	if err != nil {
		return 0, nil, err
	}
	if !isObject(b) {
		return 0, nil, ErrForm
	}
	var at []byte
	for w := (walk{text: b}); w.next(); {
		switch string(w.key) {
		case "idx":
			at = w.value
		case "value":
			value = w.value
		}
	}
	idx, err = index(at)
	return idx, value, err
}

// Custom checks the payload of a custom event, which the gateway forwards. raw is compact JSON, nil
// if the payload is empty. raw aliases the payload if that is compact already, else it is a copy;
// so the payload must be immutable.
func (p *Parser) Custom(payload []byte) (raw []byte, err error) {
	if len(payload) == 0 {
		return nil, nil
	}
	t, ok := check(payload, p.Yield)
	switch {
	case !ok:
		return nil, ErrMalformed
	case t == 0:
		return payload, nil
	}
	raw = compact(make([]byte, 0, len(payload)), payload, p.Yield)
	if t&lone != 0 {
		raw = repair(make([]byte, 0, len(raw)), raw)
	}
	return raw, nil
}

// QueryEvent reads the payload of a query event: the subject of the query requests (RES.md 3.2).
// The error is ErrSubject if the subject is missing or not valid in NATS.
func (p *Parser) QueryEvent(payload []byte) (subject string, err error) {
	defer p.done()
	root, err := p.load(payload)
	if err != nil {
		return "", err
	}
	o := object(root)
	if o == nil {
		return "", ErrForm
	}
	var s *fastjson.Value
	o.Visit(func(key []byte, v *fastjson.Value) {
		if string(key) == "subject" {
			s = v
		}
	})
	b, ok := text(s)
	if !ok || !ValidSubject(view(b)) {
		return "", ErrSubject
	}
	return string(b), nil
}

// RawEvent is an event in the reply to a query request. Data has the form of the payload of
// event.<name>.<Name>, for the same Parser methods. It is compact JSON, nil if absent; the caller
// owns it.
type RawEvent struct {
	Name string
	Data []byte
}

// QueryResult is the result of a query request: events, a model or a collection. With none of them,
// nothing changed.
type QueryResult struct {
	Events                []RawEvent
	IsModel, IsCollection bool
	Props                 []Prop  // of a model: sorted by key, each key once
	Values                []Value // of a collection
}

// QueryResponse reads the reply to a query request. The error is the service's (system.notFound
// deletes the resource), or a system.internalError if the reply is invalid or has more than one of
// events, model and collection (RES.md 3.2).
func (p *Parser) QueryResponse(payload []byte) (QueryResult, *Error) {
	defer p.done()
	a := p.answer(payload)
	switch {
	case a.err != nil:
		return QueryResult{}, a.err
	case isNone(a.result):
		return QueryResult{}, errMissingResult
	}
	r, events, err := p.resource(a.result)
	if err != nil {
		return QueryResult{}, err
	}
	q := QueryResult{IsModel: r.IsModel, IsCollection: r.IsCollection, Props: r.Props, Values: r.Values}
	if events == nil {
		return q, nil
	}
	if !isArray(events) || r.IsModel || r.IsCollection {
		return QueryResult{}, errInvalidResponse
	}
	q.Events = make([]RawEvent, 0, count(events))
	for w := (walk{text: events}); w.next(); {
		e, ok := p.rawEvent(w.value)
		if !ok {
			return QueryResult{}, errInvalidResponse
		}
		q.Events = append(q.Events, e)
	}
	return q, nil
}

func (p *Parser) rawEvent(b []byte) (e RawEvent, ok bool) {
	if !isObject(b) {
		return e, false
	}
	var name, data []byte
	for w := (walk{text: b}); w.next(); {
		switch string(w.key) {
		case "event":
			name = w.value
		case "data":
			data = w.value
		}
	}
	if !isString(name) {
		return e, false
	}
	e.Name = string(content(p.buf[:0], name))
	if !ValidSubject(e.Name) || strings.Contains(e.Name, ".") {
		return e, false // not valid in a subject event.<name>.<event>
	}
	if data != nil {
		e.Data = p.appendRaw(make([]byte, 0, len(data)), data)
	}
	return e, true
}
