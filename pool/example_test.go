package pool_test

import (
	"fmt"

	"sluice/pool"
)

// A loop encodes each message once into its arena. Outboxes hold the same slice; messages that
// follow each other in memory leave as one write.
func ExampleArena() {
	var arena pool.Arena
	first := arena.Commit(append(arena.Begin(), "one "...))
	second := arena.Commit(append(arena.Begin(), "two"...))
	if both, ok := arena.Join(first, second); ok {
		fmt.Printf("%s\n", both)
	}
	// Output: one two
}
