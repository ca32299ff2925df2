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

func (c cids) format(h netpoll.Handle) string {
	return string(strconv.AppendUint([]byte(c.prefix), uint64(h), 36))
}

// parse returns the connection, false if another gateway made the ID.
func (c cids) parse(cid string) (netpoll.Handle, bool) {
	rest, ok := strings.CutPrefix(cid, c.prefix)
	if !ok {
		return 0, false
	}
	h, err := strconv.ParseUint(rest, 36, 64)
	return netpoll.Handle(h), err == nil
}
