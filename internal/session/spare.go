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

// endWork releases b's work. Most loads are short, so the next one takes it again. A caller that
// has called out since it read b.work must read it again: another subscription may have it.
func (env *Env) endWork(b *Sub) {
	w := b.work
	if b.work = nil; w != nil && len(env.works) < keepWorks {
		*w = work{}
		env.works = append(env.works, w)
	}
}
