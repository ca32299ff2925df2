package invariants

import "testing"

func TestCheckPanicsOnlyWhenBroken(t *testing.T) {
	Check(true, "fine")
	defer func() {
		if got, want := recover(), "invariant broken: 1 of 2"; got != want {
			t.Errorf("panic %v, want %q", got, want)
		}
	}()
	Check(false, "%d of %d", 1, 2)
}
