package session

// Bounds of how many objects of a kind a loop keeps for the next use.
const (
	keepSpares   = 256  // a page with its references needs as many at a time
	keepRequests = 1024 // access requests, and fetches
)

// take returns an object that keep has kept, or a new one.
func take[T any](spares *[]*T) *T {
	n := len(*spares) - 1
	if n < 0 {
		return new(T)
	}
	t := (*spares)[n]
	(*spares)[n] = nil
	*spares = (*spares)[:n]
	return t
}

// keep keeps an object for take, unless most are kept. Nothing may refer to it any more.
func keep[T any](spares *[]*T, t *T, most int) {
	if len(*spares) < most {
		*spares = append(*spares, t)
	}
}

// takeWork returns an empty work.
func (env *Env) takeWork() *work { return take(&env.works) }

// takeRequest returns an accessRequest that is empty but for done.
func (env *Env) takeRequest() *accessRequest {
	r := take(&env.asked)
	if r.done == nil {
		r.done = r.reply
	}
	return r
}

// endRequest releases an accessRequest that has had its reply.
func (env *Env) endRequest(r *accessRequest) {
	*r = accessRequest{done: r.done}
	keep(&env.asked, r, keepRequests)
}

// takeFetch returns an empty fetch.
func (env *Env) takeFetch() *fetch { return take(&env.fetched) }

// endFetch releases a fetch that is over: it is neither queued nor in a subscription's work, and no
// waiter has it.
func (env *Env) endFetch(f *fetch) {
	*f = fetch{}
	keep(&env.fetched, f, keepRequests)
}

// endWork releases b's work. Most loads are short, so the next one takes it again. A caller that
// has called out since it read b.work must read it again: another subscription may have it.
func (env *Env) endWork(b *Sub) {
	if w := b.work; w != nil {
		b.work, *w = nil, work{}
		keep(&env.works, w, keepSpares)
	}
}
