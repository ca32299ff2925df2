package netpoll

// Handle names a connection for all time: the loop it lives on, its slot there, and which of the
// slot's connections it is. Once the connection has closed, the handle leads to nothing. Zero names
// none.
type Handle uint64

const (
	handleGenBits  = 32
	handleSlotBits = 22
	handleLoopBits = 64 - handleGenBits - handleSlotBits
)

func makeHandle(loop int, slot, gen uint32) Handle {
	return Handle(loop)<<(handleGenBits+handleSlotBits) | Handle(slot)<<handleGenBits | Handle(gen)
}

// Loop returns the index of the loop that the connection lives on.
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
	gen  uint32 // of the present connection, or the next one; never 0
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

// remove makes c's handle lead to nothing.
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
