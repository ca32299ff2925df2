package owner

import (
	"sync"
	"sync/atomic"
)

// Mailbox is a FIFO with many writers and one reader, the owner. It takes no lock. Messages of one
// writer are handled in the order of its Puts; a Put that happened before another is handled first.
//
// It is a linked list in which a writer first swaps itself in as the newest node and then links its
// predecessor to itself. Between the two steps the list is cut: the reader sees an end although
// newer nodes exist behind it. That is harmless because of how wake-ups are scheduled:
//
//   - a writer looks at scheduled only after it has linked its node;
//   - the reader clears scheduled before it looks at the list.
//
// So for the node at which the reader stopped, the link came after the clearing. Its writer then
// finds scheduled clear, and wakes; or finds it set by a writer whose wake-up has not led to a
// Drain yet, and that Drain will see the link. No message is left behind without a wake-up on its
// way.
//
// Nodes are recycled: the reader gives one back only after it has seen the link out of it, which is
// the last thing any writer does to it.
type Mailbox[M any] struct {
	// Fixed after construction. The runtime refers to each pool in use until the second garbage
	// collection after its last use, so nodes is no part of the mailbox: that would keep the owner
	// with all it has, by wake.
	wake  func()
	nodes *sync.Pool

	// Shared by the writers.
	_         [64]byte
	newest    atomic.Pointer[node[M]]
	count     atomic.Int64
	scheduled atomic.Bool

	// Owned by the reader: the node handled last, whose link leads to the oldest message.
	_      [64]byte
	handed *node[M]
}

type node[M any] struct {
	next atomic.Pointer[node[M]]
	msg  M
}

// NewMailbox returns an empty mailbox. wake is called by the goroutine that puts a message when no
// wake-up is pending yet, and by Drain when it leaves messages behind. It must not block, and
// must lead to one Drain by the owner.
func NewMailbox[M any](wake func()) *Mailbox[M] {
	m := &Mailbox[M]{wake: wake, nodes: new(sync.Pool), handed: new(node[M])}
	m.newest.Store(m.handed)
	return m
}

// Put adds a message. Any goroutine may call it, the owner included.
func (m *Mailbox[M]) Put(msg M) {
	n, _ := m.nodes.Get().(*node[M])
	if n == nil {
		n = new(node[M])
	}
	n.msg = msg
	m.count.Add(1)
	link(m.enter(n), n)
	m.schedule()
}

// enter makes n the newest node and returns the one before it, which does not lead to it yet.
func (m *Mailbox[M]) enter(n *node[M]) (prev *node[M]) { return m.newest.Swap(n) }

func link[M any](prev, n *node[M]) { prev.next.Store(n) }

// schedule wakes the owner unless a wake-up is pending. The load keeps busy writers from fighting
// over the cache line for a swap that would fail.
func (m *Mailbox[M]) schedule() {
	if !m.scheduled.Load() && m.scheduled.CompareAndSwap(false, true) {
		m.wake()
	}
}

// Drain hands the oldest messages to f, at most max of them (max < 1: as many as there were when it
// began). Only the owner calls it, and not from within f. If messages remain, it has called wake
// and returns true.
func (m *Mailbox[M]) Drain(max int, f func(M)) (more bool) {
	m.scheduled.Store(false)
	if max < 1 {
		max = int(m.count.Load())
	}
	for range max {
		msg, ok := m.take()
		if !ok {
			return false
		}
		f(msg)
	}
	if m.empty() {
		return false
	}
	m.schedule()
	return true
}

// empty reports whether the reader sees no message: there is none, or the list is cut by a writer
// that has yet to schedule.
func (m *Mailbox[M]) empty() bool { return m.handed.next.Load() == nil }

// take removes the oldest message that the reader sees.
func (m *Mailbox[M]) take() (msg M, ok bool) {
	next := m.handed.next.Load()
	if next == nil {
		return msg, false
	}
	msg, next.msg = next.msg, msg
	free := m.handed
	m.handed = next
	free.next.Store(nil)
	m.nodes.Put(free)
	m.count.Add(-1)
	return msg, true
}

// Len returns how many messages wait, approximately. Any goroutine may call it.
func (m *Mailbox[M]) Len() int { return int(m.count.Load()) }
