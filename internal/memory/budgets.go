package memory

// Budgets are bounds on memory in bytes that depend on the memory limit unless the user sets them.
type Budgets struct {
	Cache   int // resources without subscribers
	Backlog int // output that waits for slow clients
}

// NewBudgets returns what the user has set, or for 0 a share of the memory.
func NewBudgets(cache, backlog int) Budgets {
	return Budgets{
		Cache:   Share(cache, 8, 8<<20, 1<<30),
		Backlog: Share(backlog, 4, 16<<20, 64<<30),
	}
}
