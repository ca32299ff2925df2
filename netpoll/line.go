package netpoll

// An event for many takes a while to write: a fifth of a second for 20,000 clients. Nobody is kept
// waiting for that. Connections that get something stand in a line if they are many, and a part of
// it is written in each turn. In between the loop reads, hears of what is new, and writes to the
// few that this concerns.
//
// Whoever stands in line gets all that was sent until it is written, in one write. So what comes
// while the line moves costs no writes of its own, and reaches the last client after one round of
// the line, not two.

const (
	crowd = 128 // connections that are written in the turn in which they got something, at most
	part  = 512 // connections of the line that are written in a turn
)

// line is the connections that wait to be written, each once, with flagDirty set.
type line struct {
	conns []*Conn // from head on; the first is the next
	head  int
}

func (q *line) len() int { return len(q.conns) - q.head }

// join appends connections.
func (q *line) join(conns []*Conn) {
	if q.head > len(q.conns)/2 {
		n := copy(q.conns, q.conns[q.head:])
		clear(q.conns[n:])
		q.conns, q.head = q.conns[:n], 0
	}
	q.conns = append(q.conns, conns...)
}

// take removes and returns the first n connections. The caller clears the slice when it is done,
// before anyone joins.
func (q *line) take(n int) []*Conn {
	n = min(n, q.len())
	first := q.conns[q.head : q.head+n]
	if q.head += n; q.head == len(q.conns) {
		q.conns, q.head = q.conns[:0], 0
	}
	return first
}

// flush writes to the connections that have got something, or lets them stand in line, and writes
// to a part of the line.
func (l *Loop) flush() {
	if n := len(l.dirty); n > crowd {
		l.line.join(l.dirty)
		clear(l.dirty)
		l.dirty = l.dirty[:0]
	} else if n > 0 {
		l.work.batch, l.work.queued = l.dirty, false
		l.flusher.flush(l, l.sift(l.dirty))
		l.work.batch, l.work.conn = nil, nil
		// What became dirty meanwhile was appended behind the batch.
		rest := copy(l.dirty, l.dirty[n:])
		clear(l.dirty[rest:])
		l.dirty = l.dirty[:rest]
	}
	if l.line.len() > 0 {
		batch := l.line.take(part)
		l.work.batch, l.work.queued = batch, true
		l.flusher.flush(l, l.sift(batch))
		l.work.batch, l.work.conn = nil, nil
		clear(batch)
	}
}
