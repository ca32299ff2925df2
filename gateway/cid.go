package gateway

import (
	"crypto/rand"
	"encoding/base32"
	"strconv"
	"strings"

	"sluice/netpoll"
)

// cids makes connection IDs: single NATS subject tokens, unique over all
// gateways and all time, from which the gateway that made them finds its
// connection without a table. A client cannot guess another's.
type cids struct{ prefix string }

func newCIDs() cids {
	var b [15]byte
	_, _ = rand.Read(b[:]) // never fails
	return cids{strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))}
}

// Conn returns the ID of a connection.
func (c cids) Conn(h netpoll.Handle) string {
	return string(strconv.AppendUint([]byte(c.prefix), uint64(h), 36))
}

// Request makes the ID of an HTTP request from its loop and its number there.
func (c cids) Request(loop int, number uint64) string {
	b := strconv.AppendUint(append([]byte(c.prefix), httpMark...), uint64(loop), 36)
	return string(strconv.AppendUint(append(b, httpMark...), number, 36))
}

// httpMark separates what stands in the ID of an HTTP request. It is no digit.
const httpMark = "H"

// connID is what a connection ID names: an HTTP request by its loop and number
// if number is not 0, else a connection.
type connID struct {
	loop   int
	number uint64
	conn   netpoll.Handle
}

// parse returns what an ID names. ok is false if another gateway made the ID, or
// nobody: it must be exactly what Conn or Request would make. That there is
// such a loop, connection or request is for the caller to find out.
func (c cids) parse(cid string) (who connID, ok bool) {
	rest, ok := strings.CutPrefix(cid, c.prefix)
	if !ok {
		return connID{}, false
	}
	http, ok := strings.CutPrefix(rest, httpMark)
	if !ok {
		n, err := strconv.ParseUint(rest, 36, 64)
		h := netpoll.Handle(n)
		return connID{loop: h.Loop(), conn: h}, err == nil && c.Conn(h) == cid
	}
	loop, number, _ := strings.Cut(http, httpMark)
	l, err1 := strconv.ParseUint(loop, 36, 16)
	n, err2 := strconv.ParseUint(number, 36, 64)
	who = connID{loop: int(l), number: n}
	return who, err1 == nil && err2 == nil && n > 0 && c.Request(who.loop, n) == cid
}
