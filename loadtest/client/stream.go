//go:build linux

package client

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// streamer is a Driver whose clients read event streams, and nothing else. The head of the
// response confirms all subscriptions.
type streamer interface {
	// Target appends the target of the request for a stream of the topics' events.
	Target(dst []byte, topics []int) []byte
}

// openStream requests the stream of the client's topics as server-sent events (WHATWG HTML
// section 9.2). In RES a topic is a resource, which comes first and makes the connection ready.
func (c *Conn) openStream() {
	t := c.t
	c.state, c.pending = stateOpening, 1
	t.topics = t.cfg.TopicsOf(t.topics[:0], int(c.index))
	b := append(t.scratch[:0], "GET "...)
	if s, ok := t.driver.(streamer); ok {
		b = s.Target(b, t.topics)
	} else {
		path := bytes.ReplaceAll([]byte(Topic(t.topics[0])), []byte{'.'}, []byte{'/'})
		b = append(append(b, t.cfg.Streams...), path...)
	}
	b = append(append(b, " HTTP/1.1\r\nHost: "...), t.cfg.Addr...)
	b = append(b, "\r\nAccept: text/event-stream\r\n"...)
	if t.cfg.Token != "" {
		b = append(append(append(b, "Authorization: Bearer "...), t.cfg.Token...), crlf...)
	}
	b = append(b, crlf...)
	c.write(b)
	t.scratch = b
}

// streamed consumes the head of a stream's response, a chunk, or complete events, and returns
// their length.
func (c *Conn) streamed(b []byte) int {
	if !c.begun {
		return c.streamHead(b)
	}
	if !c.chunked {
		n := c.events(b)
		if n == 0 {
			c.need = len(b) + 1
			if len(b) > maxMessage {
				c.fail(errLargeEvent)
			}
		}
		return n
	}
	data, n, err := nextChunk(b)
	switch {
	case err != nil:
		c.fail(err)
		return 0
	case n > len(b):
		c.need = n
		return 0
	case len(c.stream) > 0:
		data = append(c.stream, data...)
		c.stream = nil
	}
	data = data[c.events(data):]
	if len(data) > maxMessage {
		c.fail(errLargeEvent)
		return 0
	}
	if len(data) > 0 {
		c.stream = append([]byte(nil), data...)
	}
	return n
}

var errLargeEvent = errors.New("an event of the stream is too large")

// streamHead consumes the head of a stream's response.
func (c *Conn) streamHead(b []byte) int {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		if len(b) > 16<<10 {
			c.fail(errRejected)
		}
		return 0
	}
	line, rest, _ := bytes.Cut(b[:end], crlf)
	head := bytes.ToLower(rest)
	coding, coded := header(head, "transfer-encoding")
	switch {
	case !bytes.HasPrefix(line, []byte("HTTP/1.1 200")) || !bytes.Contains(head, []byte("text/event-stream")):
		c.fail(fmt.Errorf("there is no event stream: %s", line))
		return 0
	case coded && coding != "chunked":
		c.fail(fmt.Errorf("the event stream has the transfer coding %q, which the harness does not read", coding))
		return 0
	}
	c.begun, c.chunked = true, coded
	if _, ok := c.t.driver.(streamer); ok {
		c.answer(1, true)
	}
	return end + 4
}

// header returns the value of a field in the lines of a head in lower case.
func header(head []byte, name string) (value string, ok bool) {
	for line := range bytes.SplitSeq(head, crlf) {
		if key, v, found := bytes.Cut(line, []byte{':'}); found && string(key) == name {
			return string(bytes.TrimSpace(v)), true
		}
	}
	return "", false
}

// events counts the complete events in b, and returns their length. Comments, which keep a stream
// alive, count as events without a due time, or not at all in front of one.
func (c *Conn) events(b []byte) int {
	end := bytes.LastIndex(b, []byte("\n\n"))
	if end < 0 {
		return comments(b)
	}
	end += 2
	c.t.count.Frames += int64(bytes.Count(b[:end], []byte("\n\n")))
	if c.state == stateOpening { // the resource itself
		c.answer(1, true)
	} else {
		c.deliver(b[:end])
	}
	return end + comments(b[end:])
}

// comments returns the length of the lines that begin b and are comments.
func comments(b []byte) (n int) {
	for n < len(b) && b[n] == ':' {
		end := bytes.IndexByte(b[n:], '\n')
		if end < 0 {
			break
		}
		n += end + 1
	}
	return n
}

// maxChunkLine bounds a chunk's first line, in bytes.
const maxChunkLine = 1 << 10

var (
	errChunk     = errors.New("the event stream has a malformed chunk")
	errLastChunk = fmt.Errorf("%w: the event stream has its last chunk", errEnded)
)

// nextChunk returns the data of the first chunk of b (RFC 9112 section 7.1), and the chunk's
// length with its line and line end. If b does not hold all of it, data is nil and n a length
// beyond b's that it has at least. The last chunk, which is empty, is an error.
func nextChunk(b []byte) (data []byte, n int, err error) {
	end := bytes.IndexByte(b[:min(len(b), maxChunkLine)], '\n')
	if end < 0 {
		if len(b) >= maxChunkLine {
			return nil, 0, errChunk
		}
		return nil, len(b) + 1, nil
	}
	line, ok := bytes.CutSuffix(b[:end], []byte{'\r'})
	size, _, _ := bytes.Cut(line, []byte{';'}) // what follows are extensions
	size = bytes.TrimRight(size, " \t")
	length, err := strconv.ParseUint(string(size), 16, 63)
	switch {
	case !ok || err != nil || length > maxMessage:
		return nil, 0, errChunk
	case length == 0:
		return nil, 0, errLastChunk
	}
	data = b[end+1:]
	if n = end + 1 + int(length) + 2; len(b) < n {
		return nil, n, nil
	}
	if !bytes.Equal(data[length:length+2], crlf) {
		return nil, 0, errChunk
	}
	return data[:length], n, nil
}
