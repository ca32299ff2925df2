package res

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"unsafe"

	"github.com/valyala/fastjson"
)

// Errors of reading a message. They tell what is wrong for a log line; answers to clients are *Error.
var (
	ErrMalformed = errors.New("not strict JSON in valid UTF-8")
	ErrForm      = errors.New("JSON of the wrong form")
	ErrIndex     = errors.New("index missing or not a whole number from 0 up")
	ErrSubject   = errors.New("no valid NATS subject")

	errNested    = errors.New("invalid value: an object or array must be wrapped as a data value")
	errRID       = errors.New("invalid value: a reference needs a valid rid")
	errAmbiguous = errors.New("invalid value: more than one of rid, action and data")
	errAction    = errors.New("invalid value: unknown action")
	errSoft      = errors.New("invalid value: soft is no boolean")
	errDelete    = errors.New("invalid value: delete action outside a change event")
)

const (
	// keepFed is how many bytes of text a fastjson parser reads before it is replaced. Its tree of values keeps the
	// capacity of each node for good, up to some 30 bytes for each byte read and at another node each time, so what it
	// keeps is bounded by what it was fed and by nothing else.
	keepFed = 256 << 10
	// keepScratch is up to how many bytes of scratch memory are kept for the next message.
	keepScratch = 64 << 10
	// chunk is about how many bytes of text the values of one message share as one string. It bounds what a single value
	// keeps alive after its siblings are gone.
	chunk = 4 << 10
)

// Parser reads messages of clients and services. It belongs to one owner (a loop, a shard) and keeps scratch memory from
// message to message; it must not be used by two goroutines at once. The zero Parser is ready.
//
// Strings in results belong to the caller and share a few allocations. Byte slices in results say until when they are
// valid. Messages given are only read, and not kept unless a method says so.
type Parser struct {
	js   fastjson.Parser
	fed  int    // bytes read by js
	text []byte // a repaired message
	req  []byte // what the last Request or RequestView points into
	out  []byte // the payload of the last Call
	buf  []byte // text of the values being gathered
	cuts []cut  // where they are in buf
}

// open checks a message and returns its text, repaired and without white space before it: valid until the next open, and
// part of the message itself if there was nothing to repair. Every method that opens a message ends with done.
func (p *Parser) open(b []byte) (text []byte, t traits, err error) {
	t, ok := check(b)
	if !ok {
		return nil, 0, ErrMalformed
	}
	if t&lone != 0 {
		p.text = repair(p.text[:0], b)
		b = p.text
	}
	return trim(b), t, nil
}

// tree reads a raw value, which is part of an opened message, into a tree that is valid until the next one.
func (p *Parser) tree(b []byte) *fastjson.Value {
	p.fed += len(b)
	v, err := p.js.ParseBytes(b)
	if err != nil {
		return nil // check takes nothing that fastjson refuses: see FuzzCheck
	}
	return v
}

// load opens a message and reads it into a tree.
func (p *Parser) load(b []byte) (*fastjson.Value, error) {
	text, _, err := p.open(b)
	if err != nil {
		return nil, err
	}
	v := p.tree(text)
	if v == nil {
		return nil, ErrMalformed
	}
	return v, nil
}

// done drops the memory that a large message or many small ones left behind.
func (p *Parser) done() {
	if p.fed > keepFed {
		p.js, p.fed = fastjson.Parser{}, 0
	}
	if cap(p.text) > keepScratch {
		p.text = nil
	}
	if cap(p.buf) > keepScratch {
		p.buf = nil
	}
	if cap(p.cuts)*int(unsafe.Sizeof(cut{})) > keepScratch {
		p.cuts = nil
	}
}

// reuse returns scratch memory emptied, or none if it has grown too large to keep.
func reuse(b []byte) []byte {
	if cap(b) > keepScratch {
		return nil
	}
	return b[:0]
}

// view is b as a string without a copy, for calls that do not keep it.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// The tree of fastjson has traps that the helpers below are the answer to. Asking a string for its type unescapes it in
// place, and visiting an object its keys; written out after that they may not even be JSON. So a value's raw text is
// taken before anything in it is looked at. Object.Get finds the first of repeated keys; Visit sees the last one last.

// isNull tells whether v is absent or null.
func isNull(v *fastjson.Value) bool { return v == nil || v.Type() == fastjson.TypeNull }

// text returns the unescaped content of a string, valid until the next load.
func text(v *fastjson.Value) (s []byte, ok bool) {
	if v == nil || v.Type() != fastjson.TypeString {
		return nil, false
	}
	s, err := v.StringBytes()
	return s, err == nil
}

// optText is text for a member that may be absent or null, which is empty text.
func optText(v *fastjson.Value) (s []byte, ok bool) {
	if isNull(v) {
		return nil, true
	}
	return text(v)
}

// optBool is the boolean of a member that may be absent or null, which is false.
func optBool(v *fastjson.Value) (b, ok bool) {
	if isNull(v) {
		return false, true
	}
	b, err := v.Bool()
	return b, err == nil
}

// appendRaw appends the raw text of a member that may be absent or null, which is no text.
func appendRaw(dst []byte, v *fastjson.Value) []byte {
	if v == nil {
		return dst
	}
	n := len(dst)
	dst = v.MarshalTo(dst)
	if string(dst[n:]) == "null" {
		return dst[:n]
	}
	return dst
}

// object returns v as an object, or nil.
func object(v *fastjson.Value) *fastjson.Object {
	if v == nil {
		return nil
	}
	return v.GetObject()
}

// array returns the elements of an array.
func array(v *fastjson.Value) (a []*fastjson.Value, ok bool) {
	if v == nil || v.Type() != fastjson.TypeArray {
		return nil, false
	}
	return v.GetArray(), true
}

// texts returns the strings of an array that may be absent or null, owned by the caller.
func texts(v *fastjson.Value) (s []string, ok bool) {
	if isNull(v) {
		return nil, true
	}
	a, ok := array(v)
	if !ok {
		return nil, false
	}
	s = make([]string, len(a))
	for i, e := range a {
		b, ok := text(e)
		if !ok {
			return nil, false
		}
		s[i] = string(b)
	}
	return s, true
}

// index reads an index of a collection: plain decimal digits, at most 2^31-1.
func index(b []byte) (int, error) {
	n, ok := digits(b)
	if !ok || n > maxCount {
		return 0, ErrIndex
	}
	return n, nil
}

const maxCount = 1<<31 - 1

// digits reads plain decimal digits; what is above maxCount becomes maxCount+1.
func digits(b []byte) (n int, ok bool) {
	for _, c := range b {
		if c-'0' > 9 {
			return 0, false
		}
		n = min(n*10+int(c-'0'), maxCount+1)
	}
	return n, len(b) > 0
}

// cut is where the texts of one property or value are in the gathered text.
type cut struct {
	kind                     Kind
	key, keyEnd              int
	raw, rawEnd, rid, ridEnd int
}

func (c cut) value(s string) Value {
	if c.kind == Delete {
		return DeleteValue
	}
	return Value{Kind: c.kind, Raw: s[c.raw:c.rawEnd], RID: s[c.rid:c.ridEnd]}
}

// gather appends the texts of a raw value to buf and says where they are. Which kinds are allowed is the caller's
// business.
func (p *Parser) gather(b []byte) (c cut, err error) {
	c.raw = len(p.buf)
	switch {
	case isArray(b):
		return c, errNested
	case !isObject(b):
		p.buf = append(p.buf, b...)
		c.rawEnd = len(p.buf)
		return c, nil
	}
	v := p.tree(b)
	if v == nil {
		return c, ErrMalformed
	}
	p.buf = v.MarshalTo(p.buf)
	c.rawEnd = len(p.buf)
	var rid, soft, action, data *fastjson.Value
	v.GetObject().Visit(func(key []byte, v *fastjson.Value) {
		switch string(key) {
		case "rid":
			rid = v
		case "soft":
			soft = v
		case "action":
			action = v
		case "data":
			data = v
		}
	})
	switch {
	case rid == nil && action == nil && data == nil:
		return c, errNested
	case rid != nil && action != nil || rid != nil && data != nil || action != nil && data != nil:
		return c, errAmbiguous
	case rid != nil:
		return p.gatherReference(c, rid, soft)
	case action != nil:
		if a, ok := text(action); !ok || string(a) != "delete" {
			return c, errAction
		}
		c.kind = Delete
		p.buf = p.buf[:c.raw]
		c.rawEnd = c.raw
		return c, nil
	}
	// Written anew, so that what it holds is found again by its place: see Value.Content.
	p.buf = append(p.buf[:c.raw], dataPrefix...)
	inner := len(p.buf)
	p.buf = data.MarshalTo(p.buf)
	if ch := p.buf[inner]; ch != '{' && ch != '[' {
		c.raw, c.rawEnd = inner, len(p.buf) // a primitive, wrapped: the same value as without
		return c, nil
	}
	p.buf = append(p.buf, '}')
	c.kind, c.rawEnd = Data, len(p.buf)
	return c, nil
}

func (p *Parser) gatherReference(c cut, rid, soft *fastjson.Value) (cut, error) {
	id, ok := text(rid)
	if !ok || !ValidRID(view(id)) {
		return c, errRID
	}
	isSoft, ok := optBool(soft)
	if !ok {
		return c, errSoft
	}
	c.kind = Reference
	if isSoft {
		c.kind = SoftReference
	}
	// Unless it has escapes the raw text holds the rid, and the string can be shared.
	if at := bytes.Index(p.buf[c.raw:c.rawEnd], id); at >= 0 {
		c.rid = c.raw + at
	} else {
		c.rid = len(p.buf)
		p.buf = append(p.buf, id...)
	}
	c.ridEnd = c.rid + len(id)
	return c, nil
}

// props reads an object of values: sorted by key, each key once.
func (p *Parser) props(b []byte, deletes bool) ([]Prop, error) {
	n := count(b)
	if n == 0 {
		return nil, nil
	}
	out := make([]Prop, 0, n)
	p.buf, p.cuts = p.buf[:0], p.cuts[:0]
	for w := (walk{text: b}); w.next(); {
		k := len(p.buf)
		p.buf = append(p.buf, w.key...)
		kEnd := len(p.buf)
		c, err := p.gather(w.value)
		if err == nil && c.kind == Delete && !deletes {
			err = errDelete
		}
		if err != nil {
			return nil, err
		}
		c.key, c.keyEnd = k, kEnd
		p.cuts = append(p.cuts, c)
		if len(p.buf) >= chunk {
			out = p.cutProps(out)
		}
	}
	return sortProps(p.cutProps(out)), nil
}

func (p *Parser) cutProps(out []Prop) []Prop {
	s := string(p.buf)
	for _, c := range p.cuts {
		out = append(out, Prop{Key: s[c.key:c.keyEnd], Value: c.value(s)})
	}
	p.buf, p.cuts = p.buf[:0], p.cuts[:0]
	return out
}

// sortProps sorts by key and keeps the last of each.
func sortProps(ps []Prop) []Prop {
	sorted := true
	for i := 1; i < len(ps) && sorted; i++ {
		sorted = ps[i-1].Key < ps[i].Key
	}
	if sorted {
		return ps
	}
	slices.SortStableFunc(ps, func(a, b Prop) int { return strings.Compare(a.Key, b.Key) })
	n := 0
	for i := range ps {
		if i+1 < len(ps) && ps[i].Key == ps[i+1].Key {
			continue
		}
		ps[n] = ps[i]
		n++
	}
	clear(ps[n:])
	return ps[:n]
}

// values reads an array of values.
func (p *Parser) values(b []byte) ([]Value, error) {
	out := make([]Value, 0, count(b))
	p.buf, p.cuts = p.buf[:0], p.cuts[:0]
	for w := (walk{text: b}); w.next(); {
		c, err := p.gather(w.value)
		if err == nil && c.kind == Delete {
			err = errDelete
		}
		if err != nil {
			return nil, err
		}
		p.cuts = append(p.cuts, c)
		if len(p.buf) >= chunk {
			out = p.cutValues(out)
		}
	}
	return p.cutValues(out), nil
}

func (p *Parser) cutValues(out []Value) []Value {
	s := string(p.buf)
	for _, c := range p.cuts {
		out = append(out, c.value(s))
	}
	p.buf, p.cuts = p.buf[:0], p.cuts[:0]
	return out
}
