package res

import (
	"bytes"
	"slices"
	"strings"
)

// cut locates the key, raw text and rid of one property or value as offsets in Parser.buf.
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

// gather appends the texts of a raw value to buf and returns their offsets (RES.md section 1). The
// caller checks which kinds it allows.
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
	var rid, soft, action, data []byte
	for w := (walk{text: b}); w.next(); {
		switch string(w.key) {
		case "rid":
			rid = w.value
		case "soft":
			soft = w.value
		case "action":
			action = w.value
		case "data":
			data = w.value
		}
	}
	switch {
	case rid == nil && action == nil && data == nil:
		return c, errNested
	case rid != nil && action != nil || rid != nil && data != nil || action != nil && data != nil:
		return c, errAmbiguous
	case rid != nil:
		p.buf = p.appendRaw(p.buf, b)
		c.rawEnd = len(p.buf)
		return p.gatherReference(c, rid, soft)
	case action != nil:
		if !isString(action) || string(content(p.buf[len(p.buf):], action)) != "delete" {
			return c, errAction
		}
		c.kind, c.rawEnd = Delete, c.raw
	case isObject(data) || isArray(data):
		// Re-encoded without other members, so that Value.Content finds the held value at a fixed
		// offset.
		p.buf = append(p.buf, dataPrefix...)
		p.buf = append(p.appendRaw(p.buf, data), '}')
		c.kind, c.rawEnd = Data, len(p.buf)
	default: // a wrapped primitive equals the primitive itself
		p.buf = append(p.buf, data...)
		c.rawEnd = len(p.buf)
	}
	return c, nil
}

func (p *Parser) gatherReference(c cut, rid, soft []byte) (cut, error) {
	if !isString(rid) {
		return c, errRID
	}
	inner := rid[1 : len(rid)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		// The rid is a substring of the raw text.
		c.rid = c.raw + bytes.Index(p.buf[c.raw:], inner)
		c.ridEnd = c.rid + len(inner)
	} else {
		c.rid = len(p.buf)
		p.buf = unescape(p.buf, inner)
		c.ridEnd = len(p.buf)
	}
	if !ValidRID(view(p.buf[c.rid:c.ridEnd])) {
		return c, errRID
	}
	switch string(soft) {
	case "true":
		c.kind = SoftReference
	case "", "false", jsonNull:
		c.kind = Reference
	default:
		return c, errSoft
	}
	return c, nil
}

// props reads an object of values. The result is sorted by key and has each key once.
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

// sortProps sorts by key and keeps the last property of each key.
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
