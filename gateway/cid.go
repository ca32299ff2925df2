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

// parse returns whom an ID names: an HTTP request by its loop and number if
// number is not 0, else a connection. It is false if another gateway made the ID.
func (c cids) parse(cid string) (h netpoll.Handle, loop int, number uint64, ok bool) {
	rest, ok := strings.CutPrefix(cid, c.prefix)
	if !ok {
		return 0, 0, 0, false
	}
	if http, ok := strings.CutPrefix(rest, httpMark); ok {
		a, b, _ := strings.Cut(http, httpMark)
		l, err1 := strconv.ParseUint(a, 36, 16)
		n, err2 := strconv.ParseUint(b, 36, 64)
		return 0, int(l), n, err1 == nil && err2 == nil && n > 0
	}
	n, err := strconv.ParseUint(rest, 36, 64)
	h = netpoll.Handle(n)
	return h, h.Loop(), 0, err == nil
}
