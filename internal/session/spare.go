package session

// keepWorks bounds how many a loop keeps: a page with its references needs as many at a time.
const keepWorks = 256

// takeWork returns an empty work.
func (env *Env) takeWork() *work {
	n := len(env.works) - 1
	if n < 0 {
		return new(work)
	}
	w := env.works[n]
	env.works[n] = nil
	env.works = env.works[:n]
	return w
}

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
	w := b.work
	if b.work = nil; w != nil && len(env.works) < keepWorks {
		*w = work{}
		env.works = append(env.works, w)
	}
}
