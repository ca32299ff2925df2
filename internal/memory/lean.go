package memory

import "runtime/debug"

// leanPercent is how much a lean process allocates between two collections at most, of what is in
// use.
const leanPercent = 25

// Lean keeps the heap close to what is in use, for more time in the collector, until end is called.
// That is for a process that fills beside another one with the same clients. Of several at a time
// the first counts.
func Lean() (end func()) {
	before := debug.SetGCPercent(leanPercent)
	if before <= leanPercent { // it is leaner, or has no collections by choice (GOGC=off)
		debug.SetGCPercent(before)
		return func() {}
	}
	return func() { debug.SetGCPercent(before) }
}
