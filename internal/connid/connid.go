// Package connid makes and reads connection IDs, by which services name clients (RES.md section 2).
//
// An ID is a single NATS subject token, unique over all gateways and all time. It holds the
// connection's place, so the gateway that made it finds the connection without a table. A client
// cannot guess the ID of another client.
//
// It never keeps state about connections: the caller checks whether an ID's loop, connection or
// request still exists.
package connid

import (
	"crypto/rand"
	"encoding/base32"
	"strconv"
	"strings"

	"sluice/netpoll"
)

// Maker makes the IDs of one gateway. It is immutable: any goroutine may use it.
type Maker struct{ prefix string }

// New returns a Maker with a random prefix of 96 bits. With it the ID of a connection, which each
// keeps, has at most 32 bytes on the first 256 loops.
func New() Maker {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails
	return Maker{strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))}
}

// WithPrefix returns a Maker with a given prefix, so clients can guess IDs. It is for a gateway
// without foreign clients, whose IDs are to be the same each time.
func WithPrefix(prefix string) Maker { return Maker{prefix} }

// Prefix returns what all IDs of this Maker begin with, and those of no other.
func (m Maker) Prefix() string { return m.prefix }

// Conn returns the ID of a connection.
func (m Maker) Conn(h netpoll.Handle) string {
	return string(strconv.AppendUint([]byte(m.prefix), uint64(h), 36))
}

// Request returns the ID of an HTTP request from its loop and its number there.
func (m Maker) Request(loop int, number uint64) string {
	b := strconv.AppendUint(append([]byte(m.prefix), httpMark...), uint64(loop), 36)
	return string(strconv.AppendUint(append(b, httpMark...), number, 36))
}

// httpMark separates the parts of an HTTP request's ID. It is no digit.
const httpMark = "H"

// ID is what a connection ID names: an HTTP request if Number is not 0, else a connection.
type ID struct {
	Loop   int            // index of the event loop
	Number uint64         // of the HTTP request on its loop, from 1
	Conn   netpoll.Handle // valid if Number is 0
}

// Parse returns what an ID names. ok is false unless the text is byte for byte what Conn or Request
// of this Maker returns.
func (m Maker) Parse(text string) (id ID, ok bool) {
	rest, ok := strings.CutPrefix(text, m.prefix)
	if !ok {
		return ID{}, false
	}
	http, ok := strings.CutPrefix(rest, httpMark)
	if !ok {
		n, err := strconv.ParseUint(rest, 36, 64)
		h := netpoll.Handle(n)
		return ID{Loop: h.Loop(), Conn: h}, err == nil && m.Conn(h) == text
	}
	loop, number, _ := strings.Cut(http, httpMark)
	l, err1 := strconv.ParseUint(loop, 36, 16)
	n, err2 := strconv.ParseUint(number, 36, 64)
	id = ID{Loop: int(l), Number: n}
	return id, err1 == nil && err2 == nil && n > 0 && m.Request(id.Loop, n) == text
}
