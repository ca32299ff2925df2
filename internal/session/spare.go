package session

// keepSpares bounds how many objects of a kind a loop keeps for the next use: a page with its
// references needs as many at a time.
const keepSpares = 256

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

// keep keeps an object for take. Nothing may refer to it any more.
func keep[T any](spares *[]*T, t *T) {
	if len(*spares) < keepSpares {
		*spares = append(*spares, t)
	}
}

// takeWork returns an empty work.
func (env *Env) takeWork() *work { return take(&env.works) }

// keepRequests bounds how many access requests, and how many fetches, a loop keeps.
const keepRequests = 1024

// takeRequest returns an accessRequest that is empty but for done.
func (env *Env) takeRequest() *accessRequest {
	n := len(env.asked) - 1
	if n < 0 {
		r := new(accessRequest)
		r.done = r.reply
		return r
	}
	r := env.asked[n]
	env.asked = env.asked[:n]
	return r
}

// endRequest releases an accessRequest that has had its reply.
func (env *Env) endRequest(r *accessRequest) {
	*r = accessRequest{done: r.done}
	if len(env.asked) < keepRequests {
		env.asked = append(env.asked, r)
	}
}

// takeFetch returns an empty fetch.
func (env *Env) takeFetch() *fetch {
	n := len(env.fetched) - 1
	if n < 0 {
		return new(fetch)
	}
	f := env.fetched[n]
	env.fetched = env.fetched[:n]
	return f
}

// endFetch releases a fetch that is over: it is neither queued nor in a subscription's work, and no
// waiter has it.
func (env *Env) endFetch(f *fetch) {
	*f = fetch{}
	if len(env.fetched) < keepRequests {
		env.fetched = append(env.fetched, f)
	}
}

// endWork releases b's work. Most loads are short, so the next one takes it again. A caller that
// has called out since it read b.work must read it again: another subscription may have it.
func (env *Env) endWork(b *Sub) {
	if w := b.work; w != nil {
		b.work, *w = nil, work{}
		keep(&env.works, w)
	}
}
