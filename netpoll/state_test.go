package netpoll

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestStateTable: ARCHITECTURE.md shows each state, with the states that a connection enters it
// from.
func TestStateTable(t *testing.T) {
	text, err := os.ReadFile("../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	for s := stateProxy; s <= stateClosed; s++ {
		var from []string
		for f := stateProxy; f <= stateClosed; f++ {
			if s.follows(f) {
				from = append(from, f.String())
			}
		}
		list := strings.Join(from, ", ")
		if s >= stateReap {
			list = "any before"
		}
		if row := fmt.Sprintf("| `%s` | %s | ", s, list); !strings.Contains(string(text), row) {
			t.Errorf("ARCHITECTURE.md has no row that begins with %s", row)
		}
	}
}

// TestStateOrder: a connection never leaves its last state, and always may be closed.
func TestStateOrder(t *testing.T) {
	for s := stateProxy; s <= stateClosed; s++ {
		if s.follows(stateClosed) || s != stateReap && s < stateReap && s.follows(stateReap) {
			t.Errorf("%s follows a state that is final", s)
		}
		if s < stateReap && !stateReap.follows(s) || s < stateClosed && !stateClosed.follows(s) {
			t.Errorf("a connection in the state %s cannot be closed", s)
		}
	}
}
