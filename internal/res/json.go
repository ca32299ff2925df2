package res

import (
	"errors"
	"slices"
	"unsafe"

	"github.com/valyala/fastjson"

	"sluice/internal/intern"
)

// Errors of reading a message. Their texts are for log records; an error response to a client is an
// *Error.
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
	// keepFed is how many bytes of text a fastjson parser reads before done replaces it. The parser
	// never frees a node's capacity, up to some 30 bytes for each byte read. Different messages
	// grow different nodes, so only the total of all bytes read bounds the memory it retains.
	keepFed = 256 << 10
	// keepScratch is how many bytes of each scratch buffer are kept for the next message.
	keepScratch = 64 << 10
	// chunk is the approximate size, in bytes, of the strings that the values of one message share.
	// It bounds how much memory a single value keeps alive after its siblings are garbage.
	chunk = 4 << 10
)

// Parser reads messages of clients and services. Its owner is one loop or one shard: it keeps
// scratch memory between messages, and is not safe for concurrent use. The zero Parser is ready.
//
// The caller owns the strings in results, which share a few allocations. The doc comment of each
// byte slice says how long it is valid. A Parser only reads a message, and does not retain it
// unless a method says so.
type Parser struct {
	// Interned has strings of earlier messages, for those that are the same. It is the owner's.
	// nil: each message has strings of its own.
	Interned *intern.Cache

	// Yield is called every millisecond or more often while a message is read, so that a worker
	// that reads a long one may let others go on. nil: it is not.
	Yield func()

	js     fastjson.Parser
	fed    int    // bytes that js has read: see keepFed
	traits traits // of the opened message
	text   []byte // a repaired message
	req    []byte // what the last Request or View points into
	out    []byte // the payload of the last Call
	buf    []byte // text of the values being gathered
	cuts   []cut  // where they are in buf
}

// open checks a message and returns its text, repaired and without leading white space. The text is
// valid until the next open, and aliases the message if nothing needed a repair. Every method that
// opens a message defers done.
func (p *Parser) open(b []byte) (text []byte, err error) {
	t, ok := check(b, p.Yield)
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

// done releases scratch memory beyond the bounds, which a large message or many small ones leave
// behind.
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

// reuse returns b with length 0, or nil if b has grown beyond keepScratch.
func reuse(b []byte) []byte {
	if cap(b) > keepScratch {
		return nil
	}
	return b[:0]
}

// view returns b as a string without a copy, for callees that do not retain it.
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

// digits reads plain decimal digits. A number above maxCount saturates at maxCount+1.
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
		return compact(dst, b, p.Yield)
	}
	if p.Yield != nil {
		dst = slices.Grow(dst, len(b)) // by doubling it would take several milliseconds
	}
	return append(dst, b...)
}
