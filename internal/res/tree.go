package res

import "github.com/valyala/fastjson"

// The tree of fastjson has traps, and the functions below step around them. Asking a string for its type unescapes it in
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

// appendText appends the raw text of a member that may be absent or null, which is no text.
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

// texts returns the strings of an array that may be absent or null, owned by the caller. An element that is null is empty
// text.
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
