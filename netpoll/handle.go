package netpoll

// Handle identifies a connection: its loop, its slot there, and the generation of the slot. It is
// never reused for another connection within 2^32 connections of a slot; after the connection has
// closed, Loop.Conn returns nil for it. Zero identifies none.
type Handle uint64

const (
	handleGenBits  = 32
	handleSlotBits = 22
	handleLoopBits = 64 - handleGenBits - handleSlotBits
)

func makeHandle(loop int, slot, gen uint32) Handle {
	return Handle(loop)<<(handleGenBits+handleSlotBits) | Handle(slot)<<handleGenBits | Handle(gen)
}

// Loop returns the index of the connection's loop.
func (h Handle) Loop() int { return int(h >> (handleGenBits + handleSlotBits)) }

func (h Handle) slot() uint32 { return uint32(h>>handleGenBits) & (1<<handleSlotBits - 1) }
func (h Handle) gen() uint32  { return uint32(h) }

// table finds connections by handle. Owned by a loop.
type table struct {
	slots []slot
	free  []uint32
	used  int
}

type slot struct {
	conn *Conn  // nil: free
	gen  uint32 // of the current or the next connection; never 0
}

// add gives c a slot; false means that there is none left.
func (t *table) add(c *Conn) bool {
	if n := len(t.free); n > 0 {
		c.slot = t.free[n-1]
		t.free = t.free[:n-1]
	} else {
		if len(t.slots) == 1<<handleSlotBits {
			return false
		}
		c.slot = uint32(len(t.slots))
		t.slots = append(t.slots, slot{gen: 1})
	}
	s := &t.slots[c.slot]
	s.conn, c.gen = c, s.gen
	t.used++
	return true
}

// remove frees the slot of c and ends the validity of its handle.
func (t *table) remove(c *Conn) {
	s := &t.slots[c.slot]
	s.conn = nil
	if s.gen++; s.gen == 0 {
		s.gen = 1
	}
	t.free = append(t.free, c.slot)
	t.used--
}

func (t *table) get(h Handle) *Conn {
	if i := int(h.slot()); i < len(t.slots) && t.slots[i].gen == h.gen() {
		return t.slots[i].conn
	}
	return nil
}
