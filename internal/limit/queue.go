package limit

// Queue is the requests that wait for one service. The most urgent priority goes first, but a lower
// one gets at least one turn in nine, so it never starves. Within a priority, clients take turns.
// Requests of one client and priority keep their order. It belongs to one goroutine. The zero value
// is empty.
type Queue[T any] struct {
	classes [Priorities]class[T]
	free    *flow[T]
	n       int
	sweep   int // length at which Push removes what is over
}

// class is the requests of one priority: a ring of clients.
type class[T any] struct {
	flows       map[uint64]*flow[T]
	first, last *flow[T] // the client whose turn is next, and last
	n           int
	passed      int // turns given to others since its own
}

// flow is the requests of one client.
type flow[T any] struct {
	client uint64
	items  []T
	head   int
	next   *flow[T]
}

const (
	passes   = 8    // turns that others get before a lower priority gets one
	sweepMin = 4096 // Queue.sweep, at least
)

// Len returns how many requests are queued.
func (q *Queue[T]) Len() int { return q.n }

// Push queues a request of a client. When the queue has doubled, it first removes the requests that
// are over.
func (q *Queue[T]) Push(p Priority, client uint64, item T, over func(T) bool) {
	if q.n >= max(q.sweep, sweepMin) {
		q.remove(over)
		q.sweep = 2 * q.n
	}
	c := &q.classes[p]
	f := c.flows[client]
	if f == nil {
		if f = q.free; f != nil {
			q.free, f.next = f.next, nil
		} else {
			f = new(flow[T])
		}
		f.client = client
		if c.flows == nil {
			c.flows = make(map[uint64]*flow[T])
		}
		c.flows[client] = f
		c.append(f)
	}
	f.put(item)
	c.n++
	q.n++
}

// Pop removes the next request and returns it with its priority.
func (q *Queue[T]) Pop() (item T, p Priority, ok bool) {
	chosen := q.choose()
	if chosen < 0 {
		return item, 0, false
	}
	for i := range q.classes {
		if q.classes[i].n > 0 {
			q.classes[i].passed++
		}
	}
	c := &q.classes[chosen]
	c.passed = 0
	f := c.first
	c.first = f.next
	if c.first == nil {
		c.last = nil
	}
	f.next = nil
	item = f.take()
	c.n--
	q.n--
	if f.head == len(f.items) {
		q.drop(c, f)
	} else {
		c.append(f)
	}
	return item, Priority(chosen), true
}

// choose returns the priority whose turn it is, -1 if nothing is queued.
func (q *Queue[T]) choose() int {
	chosen := -1
	for i := range q.classes {
		c := &q.classes[i]
		if c.n > 0 && (chosen < 0 || c.passed >= passes) {
			if chosen >= 0 {
				return i
			}
			chosen = i
		}
	}
	return chosen
}

func (c *class[T]) append(f *flow[T]) {
	if c.last == nil {
		c.first = f
	} else {
		c.last.next = f
	}
	c.last = f
}

// put appends a request. The places of those that have been taken are used again before the memory
// grows: a client that always has some queued must not make it grow with all that it ever queued.
func (f *flow[T]) put(item T) {
	if len(f.items) == cap(f.items) && f.head > len(f.items)/2 {
		n := copy(f.items, f.items[f.head:])
		clear(f.items[n:])
		f.items, f.head = f.items[:n], 0
	}
	f.items = append(f.items, item)
}

func (f *flow[T]) take() (item T) {
	var none T
	item, f.items[f.head] = f.items[f.head], none
	f.head++
	return item
}

// drop takes an empty flow out of its class, which has it in its ring no more.
func (q *Queue[T]) drop(c *class[T], f *flow[T]) {
	delete(c.flows, f.client)
	if cap(f.items) > 64 {
		f.items = nil
	}
	f.items, f.head = f.items[:0], 0
	f.next, q.free = q.free, f
	if len(c.flows) == 0 {
		c.flows, q.free = nil, nil // after a storm, its memory goes
	}
}

// remove removes the requests that are over.
func (q *Queue[T]) remove(over func(T) bool) {
	for i := range q.classes {
		c := &q.classes[i]
		ring := c.first
		c.first, c.last = nil, nil
		for f := ring; f != nil; {
			next := f.next
			f.next = nil
			kept := f.items[:0]
			for _, item := range f.items[f.head:] {
				if !over(item) {
					kept = append(kept, item)
				}
			}
			gone := len(f.items) - f.head - len(kept)
			clear(f.items[len(kept):])
			f.items, f.head = kept, 0
			c.n -= gone
			q.n -= gone
			if len(kept) == 0 {
				q.drop(c, f)
			} else {
				c.append(f)
			}
			f = next
		}
	}
}
