package cache

import (
	"sluice/internal/res"
	"sluice/internal/state"
)

// A resource larger than Options.MaxResource is not served. Its subs get an error that names the
// limit, whether a reply of its service exceeds it or an event makes the resource grow beyond it.
// For a while, which grows, further subscribers get the error without a request to the service.

// setting is what users call Options.MaxResource.
const setting = "maxResourceBytes"

// tooLarge reports whether a reply of so many bytes exceeds the limit.
func (s *Shard) tooLarge(bytes int) bool { return bytes > s.opt.MaxResource }

// large counts and logs that an entry exceeds the limit, and returns the error for its subs.
// subject is that of the request or event.
func (e *entry) large(subject string, bytes int) *res.Error {
	s := e.r.s
	s.metrics.TooLarge.Add(1)
	err := res.TooLarge(bytes, setting, s.opt.MaxResource)
	s.opt.Invalid(subject, err)
	s.refusals.add(largeKey(e.r.name, e.query), refusal{err: err, large: true}, s)
	return err
}

// end drops a loaded entry that cannot be followed any more, and ends its subscriptions.
func (e *entry) end(err *res.Error) {
	e.r.s.deliver(e, state.NewEnd(e.snap, err))
	e.drop(false)
}

// largeKey is what an entry is called in refusals. No name of a resource has a question mark.
func largeKey(name, query string) string { return name + "?" + query }

// largeBefore returns why a resource is not requested again, nil if it may be.
func (s *Shard) largeBefore(name, query string) *res.Error {
	if len(s.refusals) == 0 {
		return nil
	}
	return s.refusals.find(largeKey(name, query), s.now)
}
