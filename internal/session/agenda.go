package session

// agenda is the work that a session defers until its graph is not frozen. It
// knows no Session; proceed.go works it off.
type agenda struct {
	*items           // nil if there are none, so that an idle session has no memory for them
	frozen     int32 // nested freezes
	proceeding bool  // proceed is running
}

type items struct {
	loaded []*Sub      // their topics are loaded or failed; settle is due from next on
	next   int         // the first of loaded for which settle is due
	freed  []*throttle // have a free place
	order  *order      // requests queued for their turn; nil without any
}

// keepLoaded bounds the memory that is kept for the next agenda: a page with its references fits.
const keepLoaded = 256

// nextLoaded removes the next subscription for which settle is due, and returns it.
func (a *items) nextLoaded() *Sub {
	b := a.loaded[a.next]
	a.loaded[a.next] = nil
	if a.next++; a.next == len(a.loaded) {
		a.loaded, a.next = a.loaded[:0], 0
	}
	return b
}

// ensureItems returns the agenda's items, making them if needed from spare, the ones that
// clearItems has kept.
func (a *agenda) ensureItems(spare **items) *items {
	if a.items == nil {
		if a.items, *spare = *spare, nil; a.items == nil {
			a.items = new(items)
		}
	}
	return a.items
}

// clearItems empties the agenda, but for the requests that are still queued if keepOrder is set.
func (a *agenda) clearItems(keepOrder bool, spare **items) {
	if a.items == nil {
		return
	}
	if clear(a.loaded); cap(a.loaded) > keepLoaded {
		a.loaded = nil
	}
	a.loaded, a.next, a.freed = a.loaded[:0], 0, nil
	if keepOrder && a.order != nil {
		return
	}
	a.order = nil
	a.items, *spare = nil, a.items
}

// freeze defers the agenda until Session.thaw. Calls may be nested.
func (a *agenda) freeze() { a.frozen++ }

// due reports whether there is anything to do.
func (a *agenda) due() bool {
	return a.items != nil && (len(a.loaded)+len(a.freed) > 0 || a.requestDue())
}

// requestDue reports whether a queued request may be due.
func (a *items) requestDue() bool { return a.order != nil && len(a.order.due) > 0 }

// order has the requests that are queued for their turn (RES.md 2.3). Requests
// of one client about one resource ID take effect, and are answered, in the
// order in which the client sent them. Subscribe and get requests run together:
// they share the load that they wait for. An unsubscribe counts the
// subscriptions that these bring, so it waits for their responses, and later
// requests wait for it. Calls take no part: their order is the service's
// business, and a resource in a call's result is fetched when the reply is there.
//
// Limits.Requests bounds the queue.
type order struct {
	byRID map[string][]queuedRequest
	due   []string // their next request may run
}

type queuedRequest struct {
	alone bool // runs only after all earlier requests are answered
	run   func()
}

// queued reports whether requests about rid are queued.
func (a *agenda) queued(rid string) bool {
	return a.items != nil && a.order != nil && len(a.order.byRID[rid]) > 0
}

// enqueue adds a request to the queue of its resource ID.
func (a *items) enqueue(rid string, r queuedRequest) {
	if a.order == nil {
		a.order = &order{byRID: make(map[string][]queuedRequest)}
	}
	a.order.byRID[rid] = append(a.order.byRID[rid], r)
}

// answered makes the next request about rid due: those that fetched rid are
// answered. proceed runs it, since the caller may still be changing the graph.
func (a *agenda) answered(rid string) {
	if a.queued(rid) {
		a.order.due = append(a.order.due, rid)
	}
}

// nextDue removes the next due resource ID from the agenda.
func (a *items) nextDue() (rid string) {
	rid, a.order.due = a.order.due[0], a.order.due[1:]
	return rid
}

// dequeue removes the next request about rid and returns it. It returns nil if
// there is none, or if that request has to wait for the fetches in progress.
func (o *order) dequeue(rid string, fetching bool) (run func()) {
	queue := o.byRID[rid]
	if len(queue) == 0 || queue[0].alone && fetching {
		return nil
	}
	run = queue[0].run
	queue[0] = queuedRequest{}
	o.byRID[rid] = queue[1:]
	return run
}
