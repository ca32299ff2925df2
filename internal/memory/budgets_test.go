package memory

import "testing"

// Defaults that depend on the memory limit stay within their bounds.
func TestBudgets(t *testing.T) {
	if b := NewBudgets(5, 6); b.Cache != 5 || b.Backlog != 6 {
		t.Errorf("what is set: %+v", b)
	}
	if b := NewBudgets(0, 0); b.Cache < 8<<20 || b.Backlog < 16<<20 {
		t.Errorf("the defaults: %+v", b)
	}
}
