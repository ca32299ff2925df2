package res

import "github.com/valyala/fastjson"

// This is the reader for small values off the path of an event. A tree makes code for nested
// optional members short, and costs too much elsewhere: the head of cursor.go has the figures.
//
// fastjson mutates its tree on reading, and the functions below work around that. Value.Type
// unescapes a string in place, and Object.Visit unescapes the keys; marshalled after that, they may
// not be valid JSON. So a value's raw text is copied before anything within the value is read.
// Object.Get finds the first of repeated keys, and Visit calls back for the last one last, so
// members are found with Visit.

// isNull reports whether v is absent or null.
func isNull(v *fastjson.Value) bool { return v == nil || v.Type() == fastjson.TypeNull }

// text returns the unescaped content of a string. It is valid until the next load.
func text(v *fastjson.Value) (s []byte, ok bool) {
	if v == nil || v.Type() != fastjson.TypeString {
		return nil, false
	}
	s, err := v.StringBytes()
	return s, err == nil
}

// optText is text for an optional member: absent or null is empty text.
func optText(v *fastjson.Value) (s []byte, ok bool) {
	if isNull(v) {
		return nil, true
	}
	return text(v)
}

// appendText appends the raw text of an optional member: nothing if it is absent or null.
func appendText(dst []byte, v *fastjson.Value) []byte {
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

// object returns v as an object, nil if it is none.
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

// texts returns the strings of an optional array, nil if it is absent or null. A null element is
// empty text. The caller owns the strings.
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
		b, ok := optText(e)
		if !ok {
			return nil, false
		}
		s[i] = string(b)
	}
	return s, true
}

// tree reads a raw value of an opened message into a tree, which is valid until the next call.
func (p *Parser) tree(b []byte) *fastjson.Value {
	p.fed += len(b)
	v, err := p.js.ParseBytes(b)
	if err != nil {
		return nil // unreachable: check accepts no text that fastjson rejects (FuzzCheck)
	}
	return v
}

// load opens a message and reads it into a tree.
func (p *Parser) load(b []byte) (*fastjson.Value, error) {
	text, err := p.open(b)
	if err != nil {
		return nil, err
	}
	v := p.tree(text)
	if v == nil {
		return nil, ErrMalformed
	}
	return v, nil
}
