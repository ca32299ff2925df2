//go:build linux

package client

import (
	"bytes"
	"strconv"

	"sluice/wsproto"
)

// natsDriver is the NATS client protocol over WebSocket. It is a byte stream in binary
// frames, so a message may span two of them.
type natsDriver struct{ path string }

var (
	natsInfo = []byte("INFO ")
	natsMsg  = []byte("MSG ")
	natsPing = []byte("PING\r\n")
	natsPong = []byte("PONG\r\n")
	natsErr  = []byte("-ERR")
	crlf     = []byte("\r\n")
)

func (d natsDriver) Path() (path, subprotocol string) { return d.path, "" }

func (d natsDriver) Open(c *Conn, topics []int) {
	c.pending = 1
	b := append(c.t.scratch[:0], `CONNECT {"verbose":false,"pedantic":false,"lang":"load","version":"1","protocol":1,"headers":true,"no_responders":true}`+"\r\n"...)
	for i, topic := range topics {
		b = append(append(b, "SUB "...), Topic(topic)...)
		b = append(b, ' ')
		b = append(strconv.AppendInt(b, int64(i+1), 10), crlf...)
	}
	b = append(b, natsPing...)
	c.send(wsproto.OpBinary, b)
	c.t.scratch = b
}

func (d natsDriver) Message(c *Conn, p []byte) {
	if len(c.stream) > 0 {
		p = append(c.stream, p...)
		c.stream = nil
	}
	for len(p) > 0 {
		end := bytes.IndexByte(p, '\n')
		if end < 0 {
			break
		}
		line, size := p[:end+1], 0
		if bytes.HasPrefix(line, natsMsg) {
			n, _ := lastNumber(line, []byte{' '})
			if size = int(n) + len(crlf); len(p) < len(line)+size {
				break
			}
		}
		switch {
		case size > 0:
			c.deliver(p[len(line) : len(line)+size])
		case bytes.Equal(line, natsPing):
			c.send(wsproto.OpBinary, natsPong)
		case bytes.Equal(line, natsPong):
			c.answer(1, true)
		case bytes.HasPrefix(line, natsErr):
			c.answer(1, false)
		case bytes.HasPrefix(line, natsInfo):
		default:
			c.t.count.Strange++
		}
		p = p[len(line)+size:]
	}
	if len(p) > 0 {
		c.stream = append([]byte(nil), p...)
	}
}

func (natsDriver) Request(*Conn, Kind, int, uint64) bool { return false }
