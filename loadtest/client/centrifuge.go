//go:build linux

package client

import (
	"bytes"
	"strconv"

	"sluice/wsproto"
)

// centrifugeDriver is the JSON form of the Centrifuge client protocol: JSON objects,
// separated by line feeds, one or more per frame.
type centrifugeDriver struct{ path string }

var (
	centrifugePush  = []byte(`{"push":`)
	centrifugeReply = []byte(`{"id":`)
	centrifugeError = []byte(`"error":{`)
)

func (d centrifugeDriver) Path() (path, subprotocol string) { return d.path, "" }

func (d centrifugeDriver) Open(c *Conn, topics []int) {
	c.pending = int32(1 + len(topics))
	d.subscribe(c, append(c.t.scratch[:0], `{"id":1,"connect":{}}`...), topics)
}

func (d centrifugeDriver) More(c *Conn, topics []int) { d.subscribe(c, c.t.scratch[:0], topics) }

// subscribe sends commands in one frame: those in b, and a subscription to each topic.
func (d centrifugeDriver) subscribe(c *Conn, b []byte, topics []int) {
	for _, topic := range topics {
		if len(b) > 0 {
			b = append(b, '\n')
		}
		b = append(b, `{"id":2,"subscribe":{"channel":"`...)
		b = append(append(b, Topic(topic)...), `"}}`...)
	}
	c.send(wsproto.OpText, b)
	c.t.scratch = b
}

func (d centrifugeDriver) Message(c *Conn, p []byte) {
	for len(p) > 0 {
		line := p
		if i := bytes.IndexByte(p, '\n'); i >= 0 {
			line, p = p[:i], p[i+1:]
		} else {
			p = nil
		}
		switch {
		case bytes.HasPrefix(line, centrifugePush):
			c.deliver(line)
		case bytes.HasPrefix(line, centrifugeReply):
			id, _ := lastNumber(line[:min(len(line), 24)], centrifugeReply)
			c.answer(id, !bytes.Contains(line, centrifugeError))
		case len(line) == 2: // {} is a ping, and its own pong
			c.send(wsproto.OpText, line)
		case len(line) > 0:
			c.t.count.Strange++
		}
	}
}

func (d centrifugeDriver) Request(c *Conn, kind Kind, topic int, id uint64) bool {
	if kind != Call {
		return false
	}
	b := append(c.t.scratch[:0], `{"id":`...)
	b = strconv.AppendUint(b, id, 10)
	b = append(b, `,"rpc":{"method":"echo","data":{"value":42}}}`...)
	c.send(wsproto.OpText, b)
	c.t.scratch = b
	return true
}
