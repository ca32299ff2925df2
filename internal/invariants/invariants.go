// Package invariants is how the other packages assert what must always hold.
// The assertions exist only in builds with the tag "invariants", which the
// tests of the core run with; elsewhere they compile to nothing:
//
//	if invariants.Enabled {
//		invariants.Check(n >= 0, "negative count %d of %s", n, rid)
//	}
//
// It owns nothing and never changes what the checked code does.
package invariants

import "fmt"

// Check panics with the message if ok is false. Call it only under Enabled, so
// that its arguments cost nothing in other builds.
func Check(ok bool, format string, args ...any) {
	if !ok {
		panic("invariant broken: " + fmt.Sprintf(format, args...))
	}
}
