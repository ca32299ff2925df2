package gateway

import (
	"os"

	"sluice/internal/memory"
)

// LimitMemory sets the Go runtime's memory limit: to Config.MemoryLimit, or to a share of the
// control group's limit unless the environment's GOMEMLIMIT says what it shall be. A program calls
// it once, before New, which derives defaults from the limit.
func LimitMemory(c Config) {
	if c.Validate() != nil {
		return // New says what is wrong
	}
	c = c.WithDefaults()
	limit := memory.Find(int64(c.MemoryLimit), os.Getenv("GOMEMLIMIT"), "/")
	limit.Apply()
	switch limit.Source {
	case "":
		c.Log.Debug("no memory limit: neither memoryLimit, GOMEMLIMIT nor a control group sets one")
	case memory.FromCgroup:
		c.Log.Info("memory limit", "bytes", limit.Bytes, "source", limit.Source, "group", limit.Group)
	default:
		c.Log.Info("memory limit", "bytes", limit.Bytes, "source", limit.Source)
	}
}

// budgets are bounds on memory in bytes that depend on the memory limit unless the user sets them.
type budgets struct {
	cache int // resources without subscribers
}

func newBudgets(c *Config) budgets {
	total := memory.Available("/")
	share := func(set int, part int64, low, high int64) int {
		if set > 0 {
			return set
		}
		return int(min(max(total/part, low), high))
	}
	return budgets{
		cache: share(c.CacheBytes, 8, 8<<20, 1<<30),
	}
}
