//go:build linux

package client

import (
	"bytes"
	"strconv"

	"sluice/wsproto"
)

// floorDriver is the protocol of the harness's own server, with the same exchanges as a RES
// client's. "h" is a hello, with the response "h", as the version request has one. "s 7"
// subscribes to topic 7, with the response "s". "c 123" is a call, with the response
// "c 123". An event is its payload.
type floorDriver struct{ path string }

func (d floorDriver) Path() (path, subprotocol string) { return d.path, "" }

func (d floorDriver) Open(c *Conn, topics []int) {
	c.pending = int32(1 + len(topics))
	c.sendText("h")
	d.More(c, topics)
}

func (d floorDriver) More(c *Conn, topics []int) {
	for _, topic := range topics {
		b := strconv.AppendInt(append(c.t.scratch[:0], "s "...), int64(topic), 10)
		c.send(wsproto.OpText, b)
		c.t.scratch = b
	}
}

func (d floorDriver) Message(c *Conn, p []byte) {
	switch {
	case bytes.HasPrefix(p, []byte("{")):
		c.deliver(p)
	case bytes.Equal(p, []byte("h")), bytes.Equal(p, []byte("s")):
		c.answer(1, true)
	case bytes.HasPrefix(p, []byte("c ")):
		id, _ := lastNumber(p, []byte{' '})
		c.answer(id, true)
	default:
		c.t.count.Strange++
	}
}

func (d floorDriver) Request(c *Conn, kind Kind, topic int, id uint64) bool {
	if kind != Call {
		return false
	}
	b := strconv.AppendUint(append(c.t.scratch[:0], "c "...), id, 10)
	c.send(wsproto.OpText, b)
	c.t.scratch = b
	return true
}
