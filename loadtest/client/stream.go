//go:build linux

package client

import (
	"bytes"
	"errors"
	"fmt"
)

// openStream requests the stream of the client's resource as server-sent events (WHATWG HTML
// section 9.2). The resource itself comes first, which makes the connection ready.
func (c *Conn) openStream() {
	t := c.t
	c.state, c.pending = stateOpening, 1
	t.topics = t.cfg.TopicsOf(t.topics[:0], int(c.index))
	path := bytes.ReplaceAll([]byte(Topic(t.topics[0])), []byte{'.'}, []byte{'/'})
	b := append(append(append(t.scratch[:0], "GET "...), t.cfg.Streams...), path...)
	b = append(append(b, " HTTP/1.1\r\nHost: "...), t.cfg.Addr...)
	b = append(b, "\r\nAccept: text/event-stream\r\n"...)
	if t.cfg.Token != "" {
		b = append(append(append(b, "Authorization: Bearer "...), t.cfg.Token...), crlf...)
	}
	b = append(b, crlf...)
	c.write(b)
	t.scratch = b
}

// streamed consumes the head of a stream's response, or its complete events, and returns their
// length. Comments, which keep a stream alive, count as events without a due time.
func (c *Conn) streamed(b []byte) int {
	if !c.begun {
		end := bytes.Index(b, []byte("\r\n\r\n"))
		if end < 0 {
			if len(b) > 16<<10 {
				c.fail(errRejected)
			}
			return 0
		}
		line, rest, _ := bytes.Cut(b[:end], crlf)
		switch head := bytes.ToLower(rest); {
		case !bytes.HasPrefix(line, []byte("HTTP/1.1 200")) || !bytes.Contains(head, []byte("text/event-stream")):
			c.fail(fmt.Errorf("there is no event stream: %s", line))
			return 0
		case bytes.Contains(head, []byte("transfer-encoding:")):
			c.fail(errors.New("the event stream has a transfer coding, which the harness does not read"))
			return 0
		}
		c.begun = true
		return end + 4
	}
	end := bytes.LastIndex(b, []byte("\n\n"))
	if end < 0 {
		if len(b) > maxMessage {
			c.fail(errors.New("an event of the stream is too large"))
		}
		c.need = len(b) + 1
		return 0
	}
	end += 2
	c.t.count.Frames += int64(bytes.Count(b[:end], []byte("\n\n")))
	if c.state == stateOpening {
		c.answer(1, true)
		return end
	}
	c.deliver(b[:end])
	return end
}
