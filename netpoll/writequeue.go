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
}

// pop removes and returns the first n connections. The caller clears the slice when it is done,
// before the next push.
func (q *writeQueue) pop(n int) []*Conn {
	n = min(n, q.len())
	first := q.conns[q.head : q.head+n]
	if q.head += n; q.head == len(q.conns) {
		q.conns, q.head = q.conns[:0], 0
	}
	return first
}

// flush writes to the connections with new output, or queues them if they are more than directMax,
// and writes to queueBatch queued ones.
func (l *Loop) flush() {
	if n := len(l.dirty); n > directMax {
		l.queue.push(l.dirty)
		clear(l.dirty)
		l.dirty = l.dirty[:0]
	} else if n > 0 {
		l.work.batch, l.work.queued = l.dirty, false
		l.flusher.flush(l, l.splitDeferred(l.dirty))
		l.work.batch, l.work.conn = nil, nil
		// Connections that became dirty during the flush follow the batch.
		rest := copy(l.dirty, l.dirty[n:])
		clear(l.dirty[rest:])
		l.dirty = l.dirty[:rest]
	}
	if l.queue.len() > 0 {
		batch := l.queue.pop(queueBatch)
		l.work.batch, l.work.queued = batch, true
		l.flusher.flush(l, l.splitDeferred(batch))
		l.work.batch, l.work.conn = nil, nil
		clear(batch)
	}
}
