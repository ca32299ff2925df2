package netpoll

// Writing a fan-out takes a while: a fifth of a second for 20,000 clients. So that it does not
// delay other work, connections with output go through a write queue if they are many, and each
// iteration writes a part of the queue. In between the loop reads its sockets, takes new messages,
// and writes to the few connections that those concern.
//
// A queued connection is sent all that accumulates until its write, in that one write. So events
// that arrive while the queue is being worked off cost no writes of their own, and reach the last
// client after one round of the queue, not two.

const (
	directMax  = 128 // connections with new output up to which they are all written in the same iteration
	queueBatch = 512 // queued connections that an iteration writes
)

// writeQueue holds the connections that wait to be written, each once, with flagDirty set. Owned by
// the loop.
type writeQueue struct {
	conns []*Conn // from head on; the first is the next
	head  int

	pushed, popped uint64 // how many connections ever were
}

func (q *writeQueue) len() int { return len(q.conns) - q.head }

// push appends connections to the queue.
func (q *writeQueue) push(conns []*Conn) {
	if q.head > len(q.conns)/2 {
		n := copy(q.conns, q.conns[q.head:])
		clear(q.conns[n:])
		q.conns, q.head = q.conns[:n], 0
	}
	q.conns = append(q.conns, conns...)
	q.pushed += uint64(len(conns))
}

// pop removes and returns the first n connections. The caller clears the slice when it is done,
// before the next push.
func (q *writeQueue) pop(n int) []*Conn {
	n = min(n, q.len())
	q.popped += uint64(n)
	first := q.conns[q.head : q.head+n]
	if q.head += n; q.head == len(q.conns) {
		q.conns, q.head = q.conns[:0], 0
	}
	return first
}
