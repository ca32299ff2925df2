//go:build linux

package interest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// ioLimit bounds the wait for a NATS server that does not read or reply.
const ioLimit = 2 * time.Minute

// lastRound is the round of the events that follow all others.
const lastRound = -1

// conn is a connection to NATS as a gateway has it, without the memory of a client library: a
// million subscriptions are their numbers. One goroutine uses it; another one reads.
type conn struct {
	c     net.Conn
	w     *bufio.Writer
	pongs chan struct{}
	last  chan struct{} // an event of lastRound was received, and so was all that was published before
	ended chan struct{} // closed when reading has ended: then counts is the user's
	why   error         // why it has

	counts map[int]int // events received, by the number in their payload; owned by the reader
}

// dial connects to a server.
func dial(addr string) (*conn, error) {
	c, err := net.DialTimeout("tcp", addr, ioLimit)
	if err != nil {
		return nil, err
	}
	n := &conn{c: c, w: bufio.NewWriterSize(c, 32<<10), pongs: make(chan struct{}, 1), last: make(chan struct{}, 1), ended: make(chan struct{}), counts: map[int]int{}}
	go n.read()
	n.line(`CONNECT {"verbose":false,"pedantic":false,"protocol":1,"echo":false,"name":"gateway"}`)
	if err := n.sync(); err != nil {
		return nil, fmt.Errorf("connecting to NATS at %s: %w", addr, err)
	}
	return n, nil
}

func (n *conn) line(words ...string) {
	for i, w := range words {
		if i > 0 {
			_ = n.w.WriteByte(' ') // an error stays: sync returns it
		}
		_, _ = n.w.WriteString(w)
	}
	_, _ = n.w.WriteString("\r\n")
}

// sync writes what is buffered and waits until the server has read all of it.
func (n *conn) sync() error {
	n.line("PING")
	if err := n.patience(); err != nil {
		return err
	}
	if err := n.w.Flush(); err != nil {
		return err
	}
	select {
	case <-n.pongs:
		return nil
	case <-n.ended:
		return n.why
	case <-time.After(ioLimit):
		return fmt.Errorf("no PONG within %v", ioLimit)
	}
}

// close ends the connection and returns the events that it has received.
func (n *conn) close() map[int]int {
	n.c.Close()
	<-n.ended
	return n.counts
}

// read counts events and signals PONGs. Pings of the server are left without a reply: a run is
// shorter than its patience.
func (n *conn) read() {
	defer close(n.ended)
	r := bufio.NewReaderSize(n.c, 64<<10)
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			n.why = err
			return
		}
		switch {
		case bytes.HasPrefix(line, []byte("PONG")):
			n.pongs <- struct{}{}
		case bytes.HasPrefix(line, []byte("-ERR")):
			n.why = fmt.Errorf("NATS says %s", bytes.TrimSpace(line))
			return
		case bytes.HasPrefix(line, []byte("MSG ")):
			fields := bytes.Fields(line)
			size, err := strconv.Atoi(string(fields[len(fields)-1]))
			if err != nil || size < 0 || size > 64 {
				n.why = fmt.Errorf("NATS sends %.100q", line)
				return
			}
			payload := make([]byte, size+2)
			if _, err := io.ReadFull(r, payload); err != nil {
				n.why = err
				return
			}
			if round, err := strconv.Atoi(string(payload[:size])); err == nil {
				n.counts[round]++
				if round == lastRound {
					select {
					case n.last <- struct{}{}:
					default:
					}
				}
			}
		}
	}
}

// name returns the name of a resource.
func name(i int) string { return "library.book." + strconv.Itoa(i) }

// patience sets the time by which what is written has to be read.
func (n *conn) patience() error { return n.c.SetWriteDeadline(time.Now().Add(ioLimit)) }

// subscribe subscribes to the events of resources from..to-1, as a gateway does.
func (n *conn) subscribe(from, to int) {
	for i := from; i < to; i++ {
		if i%1000 == 0 {
			_ = n.patience() // fails if the connection is closed, which sync returns
		}
		n.line("SUB", "event."+name(i)+".*", strconv.Itoa(i+1))
	}
}

// unsubscribe ends the same.
func (n *conn) unsubscribe(from, to int) {
	for i := from; i < to; i++ {
		n.line("UNSUB", strconv.Itoa(i+1))
	}
}

// publish publishes an event of a resource.
func (n *conn) publish(i, round int) {
	text := strconv.Itoa(round)
	n.line("PUB", "event."+name(i)+".change", strconv.Itoa(len(text)))
	n.line(text)
}
