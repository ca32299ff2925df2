//go:build linux

package client

import (
	"bytes"
	"strconv"

	"sluice/wsproto"
)

// resDriver is the RES client protocol: JSON text messages, one per frame.
type resDriver struct{ path string }

var (
	resEvent  = []byte(`{"event":"`)
	resError  = []byte(`{"error":`)
	resID     = []byte(`"id":`)
	resRevoke = []byte(`.unsubscribe"`)
)

func (d resDriver) Path() (path, subprotocol string) { return d.path, "" }

func (d resDriver) Open(c *Conn, topics []int) {
	c.pending = int32(1 + len(topics))
	c.sendText(`{"id":1,"method":"version","params":{"protocol":"1.2.3"}}`)
	d.More(c, topics)
}

func (d resDriver) More(c *Conn, topics []int) {
	for _, topic := range topics {
		b := append(c.t.scratch[:0], `{"id":2,"method":"subscribe.`...)
		b = append(append(b, Topic(topic)...), `"}`...)
		c.send(wsproto.OpText, b)
		c.t.scratch = b
	}
}

func (d resDriver) Message(c *Conn, p []byte) {
	if bytes.HasPrefix(p, resEvent) {
		if !c.deliver(p) && bytes.Contains(p, resRevoke) {
			c.t.count.Revoked++
		}
		return
	}
	id, ok := lastNumber(p, resID)
	if !ok {
		c.t.count.Strange++
		return
	}
	c.answer(id, !bytes.HasPrefix(p, resError))
}

func (d resDriver) Request(c *Conn, kind Kind, topic int, id uint64) bool {
	b := append(c.t.scratch[:0], `{"id":`...)
	b = strconv.AppendUint(b, id, 10)
	b = append(b, `,"method":"`...)
	switch kind {
	case Call:
		b = append(append(b, `call.load.t`...), strconv.Itoa(topic)...)
		b = append(b, `.echo","params":{"value":42}}`...)
	case Subscribe:
		b = append(append(b, `subscribe.load.m`...), strconv.Itoa(topic)...)
		b = append(b, `"}`...)
	case Unsubscribe:
		b = append(append(b, `unsubscribe.load.m`...), strconv.Itoa(topic)...)
		b = append(b, `"}`...)
	case Open:
		b = append(append(b, `subscribe.load.p`...), strconv.Itoa(topic)...)
		b = append(b, `"}`...)
	case Leave:
		b = append(append(b, `unsubscribe.load.p`...), strconv.Itoa(topic)...)
		b = append(b, `"}`...)
	default:
		return false
	}
	c.send(wsproto.OpText, b)
	c.t.scratch = b
	return true
}
