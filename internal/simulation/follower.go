package simulation

import (
	"encoding/json"
	"fmt"
	"strings"

	"sluice/internal/resmodel"
)

// follower is a client that holds resources: what it receives has to be what it can follow.
type follower struct {
	peer
	version string
	view    *resmodel.View
	ticks   map[string]int // the last tick seen, of each resource that is held since
}

// forget begins anew.
func (f *follower) forget() { f.view, f.ticks = resmodel.NewView(), map[string]int{} }

// follow folds a message.
func (f *follower) follow(m string, fold func(m string) error) {
	f.w.note(f.name, " < ", m)
	f.w.received++
	if err := fold(m); err != nil {
		f.w.failf("%s cannot follow: %v: %s", f.name, err, m)
	}
	for rid := range f.ticks {
		if !f.view.Holds(rid) {
			delete(f.ticks, rid)
		}
	}
	if strings.Contains(m, `.tick"`) {
		f.tick(m)
	}
}

// tick checks a custom event: each carries the number after that of the one before it.
func (f *follower) tick(m string) {
	var e struct {
		Event string
		Data  json.Number
	}
	decode(m, &e)
	rid, ok := strings.CutSuffix(e.Event, ".tick")
	if !ok {
		return
	}
	n, err := e.Data.Int64()
	last, seen := f.ticks[rid]
	switch {
	case err != nil, seen && int(n) <= last:
		f.w.failf("%s gets tick %s of %s after %d", f.name, e.Data, rid, last)
	case seen && int(n) != last+1 && !f.w.lossy && !f.w.forgets:
		f.w.failf("%s gets tick %d of %s after %d: one is missing", f.name, n, rid, last)
	}
	f.ticks[rid] = int(n)
}

// check compares the client's view with the services' state.
func (f *follower) check() error {
	for _, rid := range f.view.Held() {
		if f.view.Deleted(rid) {
			continue
		}
		want, ok := f.w.of(rid).store.Value(rid)
		got, _ := f.view.Value(rid)
		switch {
		case ok && f.view.Failed(rid) && strings.Contains(got, `"system.timeout"`) && (f.w.busMetrics.Timeouts.Load() > 0 || f.w.busMetrics.Disconnects.Load() > 3):
			// It stays failed for the client, as a service was asked in vain, or the request was
			// cut four times.
		case ok && f.view.Failed(rid) && f.w.born[rid]:
		case ok && f.view.Failed(rid) && strings.Contains(got, `"system.notFound"`) && f.w.of(rid).left:
			// Nor does the service's return repair it.
		case ok && f.view.Failed(rid):
			return fmt.Errorf("%s: %s failed with %s, but it is there", f.name, rid, got)
		case !ok && !f.view.Failed(rid):
			return fmt.Errorf("%s: %s is %s, but it is not there", f.name, rid, got)
		case ok:
			if seen := resmodel.Encode(resmodel.AsSeenBy(want, f.version)); got != seen && !f.w.keepsOld(rid) {
				return fmt.Errorf("%s: %s is %s, want %s", f.name, rid, got, seen)
			}
		}
	}
	for _, rid := range f.view.Subscribed() {
		if name, _, _ := strings.Cut(rid, "?"); f.w.of(rid).store.Denied(name) {
			return fmt.Errorf("%s: %s is subscribed, but access is denied", f.name, rid)
		}
	}
	return nil
}

// keepsOld reports whether a resource may have an old state for good: a query request was answered
// too late, and RES.md section 3 has no other one follow.
func (w *world) keepsOld(rid string) bool {
	return strings.Contains(rid, ".query?") && w.cacheMetrics.QueryFailures.Load() > 0
}

// ticked checks that the client has the last custom event of what it holds.
func (f *follower) ticked() error {
	for _, rid := range f.view.Held() {
		if n, ok := f.w.of(rid).ticks[rid]; ok && !f.view.Deleted(rid) && !f.view.Failed(rid) && f.ticks[rid] != n {
			return fmt.Errorf("%s: the last tick of %s is %d, want %d", f.name, rid, f.ticks[rid], n)
		}
	}
	return nil
}
