package simulation

import "math/rand/v2"

// step is one step of a world: who acted, and what was chosen in it. A world is replayed from its
// steps. One that is left out takes nothing from the others, so that traces can be shortened.
type step struct {
	actor int
	picks []uint32
}

// chooser makes the choices of a step: at random, or those that were made before.
type chooser struct {
	rng   *rand.Rand // nil: replay
	picks []uint32
	at    int // the next of them to be replayed
}

// begins has the choices of the next step follow. Steps share memory, which none writes again.
func (c *chooser) begins() {
	if c.picks = c.picks[len(c.picks):]; cap(c.picks) < 32 {
		c.picks = make([]uint32, 0, 512)
	}
}

// pick chooses one of n. Choices that a trace lacks are 0.
func (c *chooser) pick(n int) int {
	if n <= 1 {
		return 0
	}
	if c.rng != nil {
		v := c.rng.IntN(n)
		c.picks = append(c.picks, uint32(v))
		return v
	}
	if c.at >= len(c.picks) {
		return 0
	}
	c.at++
	return int(c.picks[c.at-1]) % n
}

// one reports true in one of n cases. False is 0, the choice that shortening leads to.
func (c *chooser) one(n int) bool { return c.pick(n) == n-1 }

// random returns a source of choices that depends on one choice only.
func (c *chooser) random() *rand.Rand { return rand.New(rand.NewPCG(uint64(c.pick(1<<16)), 7)) }

func pickOf[T any](c *chooser, from []T) T { return from[c.pick(len(from))] }
