package limit

import (
	"maps"
	"strings"
	"sync/atomic"
)

// maxServices bounds the services with a limit of their own, and so the number of time series.
// Clients choose resource names, so a name does not prove that there is such a service: when the
// table is full, idle ones make room. Without room, services share one limit.
const maxServices = 256

// Options are the bounds of the limits.
type Options struct {
	Max   int // requests in flight per service, at most; 0: there is no limit
	Min   int // requests in flight that the slowest service still gets, 1 at least
	Parts int // leading parts of a resource name that name its service, 1 at least; Adjust leaves it
}

// Table is the services. Any goroutine may use it.
type Table struct {
	parts    int // fixed
	bounds   atomic.Pointer[Options]
	services atomic.Pointer[map[string]*Service]
	other    *Service
}

// NewTable returns an empty table.
func NewTable(o Options) *Table {
	t := &Table{parts: o.Parts}
	t.Adjust(o)
	t.other = newService("", &t.bounds)
	t.services.Store(&map[string]*Service{})
	return t
}

// Adjust changes the bounds. Requests that wait for a place may have one then: their publishers are
// to be told.
func (t *Table) Adjust(o Options) {
	o.Min = min(o.Min, o.Max)
	t.bounds.Store(&o)
}

// maxName bounds the names of services with a limit of their own, in bytes: they are labels of
// metrics.
const maxName = 64

// Get returns the service of a resource; nil if there is no limit. The caller calls Drop when it
// has no more use for it.
func (t *Table) Get(resource string) *Service {
	if t.bounds.Load().Max == 0 {
		return nil
	}
	name := leading(resource, t.parts)
	if len(name) > maxName {
		t.other.hold()
		return t.other
	}
	if s := (*t.services.Load())[name]; s != nil && s.hold() {
		return s
	}
	return t.add(strings.Clone(name))
}

// leading returns the first parts of a resource name.
func leading(resource string, parts int) string {
	for i := range len(resource) {
		if resource[i] == '.' {
			if parts--; parts == 0 {
				return resource[:i]
			}
		}
	}
	return resource
}

// add adds a service, unless another goroutine has.
func (t *Table) add(name string) *Service {
	for {
		old := t.services.Load()
		if s := (*old)[name]; s != nil && s.hold() {
			return s
		}
		all := maps.Clone(*old)
		delete(all, name) // an evicted one
		if len(all) >= maxServices {
			evict(all, func(s *Service) bool { return s.newest.Load() == 0 })
		}
		if len(all) >= maxServices {
			evict(all, func(*Service) bool { return true })
		}
		s := t.other
		if len(all) < maxServices {
			s = newService(name, &t.bounds)
			all[name] = s
		}
		s.hold()
		if t.services.CompareAndSwap(old, &all) {
			return s
		}
		s.Drop()
	}
}

// evict removes the services that no request refers to, if they match.
func evict(all map[string]*Service, match func(*Service) bool) {
	for name, s := range all {
		if match(s) && (s.users.Load() < 0 || s.users.CompareAndSwap(0, -1)) {
			delete(all, name)
		}
	}
}

// Each calls f with every service that has been heard of, or was to be: in no order, last with that
// of the services without a limit of their own. Without limits there is none, nor in a nil table.
func (t *Table) Each(f func(*Service)) {
	if t == nil || t.bounds.Load().Max == 0 {
		return
	}
	real := func(s *Service) {
		if s.newest.Load() > 0 || s.unheard.Load() > 0 {
			f(s)
		}
	}
	for _, s := range *t.services.Load() {
		real(s)
	}
	real(t.other)
}
