package gateway

import (
	"log/slog"
	"sync"
)

// deprecationLimit bounds how many resource names are remembered as warned of.
const deprecationLimit = 10_000

// deprecations logs the use of an old form once per resource name. It is off
// the path of events, so it may lock.
type deprecations struct {
	log *slog.Logger

	mu   sync.Mutex
	seen map[string]struct{}
}

// legacyNew notes that a service answered a call of method "new" with a bare
// {"rid":…} (RES.md 3.1).
func (d *deprecations) legacyNew(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.seen[name]; ok || len(d.seen) >= deprecationLimit {
		return
	}
	if d.seen == nil {
		d.seen = make(map[string]struct{})
	}
	d.seen[name] = struct{}{}
	d.log.Warn(`deprecated: a call of method "new" was answered with {"rid":…} as its result; answer with "resource" instead`, "resource", name)
}
