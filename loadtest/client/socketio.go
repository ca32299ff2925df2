//go:build linux

package client

import (
	"bytes"
	"errors"
	"strconv"

	"sluice/wsproto"
)

// socketioDriver is the Socket.IO protocol, revision 5, in text packets of the Engine.IO protocol,
// revision 4, one in a frame. Of the server's application it expects that the event "subscribe"
// joins the room that its argument names, and is acknowledged: without an argument, or with an
// error. Events in a room have its name, and the payload as their argument.
type socketioDriver struct{ path string }

// Types of packets: Engine.IO's digit, and for a message Socket.IO's digit after it.
const (
	packetUnknown    = -1 // malformed, of another namespace, or of no other type here
	packetOpen       = 0
	packetClose      = 1
	packetPing       = 2
	packetNoop       = 6
	packetConnect    = 40
	packetDisconnect = 41
	packetEvent      = 42
	packetAck        = 43
	packetError      = 44
)

var errDisconnected = errors.New("the server disconnected the client")

func (d socketioDriver) Path() (path, subprotocol string) { return d.path, "" }

// Open waits for the server's first packet, and then for its consent: both sides must have opened
// before a client may send events.
func (d socketioDriver) Open(c *Conn, topics []int) { c.pending = int32(1 + len(topics)) }

func (d socketioDriver) More(c *Conn, topics []int) {
	for _, topic := range topics {
		b := append(c.t.scratch[:0], `421["subscribe","`...)
		b = append(append(b, Topic(topic)...), `"]`...)
		c.send(wsproto.OpText, b)
		c.t.scratch = b
	}
}

func (d socketioDriver) Message(c *Conn, p []byte) {
	kind, id, data := parsePacket(p)
	switch kind {
	case packetEvent:
		c.deliver(data)
	case packetPing: // the pong has the ping's data
		b := append(append(c.t.scratch[:0], '3'), data...)
		c.send(wsproto.OpText, b)
		c.t.scratch = b
	case packetOpen:
		c.sendText("40")
	case packetConnect:
		if c.begun {
			c.t.count.Strange++
			return
		}
		c.begun = true
		c.t.topics = c.t.cfg.TopicsOf(c.t.topics[:0], int(c.index))
		d.More(c, c.t.topics[:len(c.t.topics)-int(c.unasked)])
		c.answer(1, true)
	case packetAck:
		c.answer(id, string(data) == "[]")
	case packetDisconnect, packetError, packetClose:
		c.fail(errDisconnected)
	case packetNoop:
	default:
		c.t.count.Strange++
	}
}

func (socketioDriver) Request(*Conn, Kind, int, uint64) bool { return false }

// parsePacket splits a text packet into its type, the id of the acknowledgement that it asks for or
// is, and the rest.
func parsePacket(p []byte) (kind int, id uint64, data []byte) {
	if len(p) == 0 {
		return packetUnknown, 0, nil
	}
	switch kind, data = int(p[0])-'0', p[1:]; kind {
	case packetOpen, packetClose, packetPing, packetNoop:
		return kind, 0, data
	case 4:
		if len(data) == 0 {
			return packetUnknown, 0, nil
		}
		kind, data = 40+int(data[0])-'0', data[1:]
	}
	if kind < packetConnect || kind > packetError || bytes.HasPrefix(data, []byte{'/'}) { // a namespace
		return packetUnknown, 0, nil
	}
	digits := 0
	for digits < len(data) && data[digits]-'0' < 10 {
		digits++
	}
	if digits > 0 {
		var err error
		if id, err = strconv.ParseUint(string(data[:digits]), 10, 64); err != nil {
			return packetUnknown, 0, nil
		}
	}
	return kind, id, data[digits:]
}
