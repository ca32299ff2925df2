package res

import (
	"errors"
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
	// keepFed is how many bytes of text a fastjson parser reads before it is replaced. Its tree keeps the capacity of
	// each node for good, up to some 30 bytes for each byte read and each time at another node, so what it keeps is
	// bounded by all that it was ever fed and by nothing less.
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
	js     fastjson.Parser
	fed    int    // bytes read by js
	traits traits // of the opened message
	text   []byte // a repaired message
	req    []byte // what the last Request or View points into
	out    []byte // the payload of the last Call
	buf    []byte // text of the values being gathered
	cuts   []cut  // where they are in buf
}

// open checks a message and returns its text, repaired and without white space before it: valid until the next open, and
// part of the message itself if there was nothing to repair. Every method that opens a message ends with done.
func (p *Parser) open(b []byte) (text []byte, err error) {
	t, ok := check(b)
	if !ok {
		return nil, ErrMalformed
	}
	p.traits = t
	if t&lone != 0 {
		p.text = repair(p.text[:0], b)
		b = p.text
	}
	return trim(b), nil
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

// index reads an index of a collection: plain decimal digits, at most 2^31-1.
func index(b []byte) (int, error) {
	n, ok := digits(b)
	if !ok || n > maxCount {
		return 0, ErrIndex
	}
	return int(n), nil
}

// maxCount bounds indexes and counts.
const maxCount = 1<<31 - 1

// digits reads plain decimal digits; what is above maxCount becomes maxCount+1.
func digits(b []byte) (n int64, ok bool) {
	for _, c := range b {
		if c-'0' > 9 {
			return 0, false
		}
		n = min(n*10+int64(c-'0'), maxCount+1)
	}
	return n, len(b) > 0
}

// appendRaw appends a raw value of the opened message as compact text.
func (p *Parser) appendRaw(dst, b []byte) []byte {
	if p.traits&spaced != 0 {
		return compact(dst, b)
	}
	return append(dst, b...)
}
