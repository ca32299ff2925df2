package upstream

import (
	"log/slog"
	"time"

	"sluice/internal/loglimit"
	"sluice/internal/owner"
	"sluice/internal/res"
)

// SystemEvents parses the events of services about many resources or clients (RES.md 3.2). It logs
// malformed ones, which any service can send. Any goroutine may use it.
type SystemEvents struct {
	Log   *slog.Logger
	Clock owner.Clock

	badReset, badTokenReset, badPattern loglimit.Limiter
}

// logEvery is how often a kind of malformed event is logged.
const logEvery = time.Second

func (s *SystemEvents) bad(kind *loglimit.Limiter, msg string, attrs ...any) {
	kind.Log(s.Log, slog.LevelError, s.Clock.Now(), logEvery, msg, attrs...)
}

// Reset parses system.reset: the patterns of the resources to fetch anew, and of those whose access
// is to be requested again. Invalid patterns are left out.
func (s *SystemEvents) Reset(data []byte) (resources, access []res.Pattern) {
	r, a, err := new(res.Parser).SystemReset(data)
	if err != nil {
		s.bad(&s.badReset, "system.reset dropped: malformed", "error", err)
		return nil, nil
	}
	return s.patterns("resources", r), s.patterns("access", a)
}

// TokenReset parses system.tokenReset: token IDs, and the subject of the auth requests that their
// clients make. ok is false if it is malformed.
func (s *SystemEvents) TokenReset(data []byte) (tids []string, subject string, ok bool) {
	tids, subject, err := new(res.Parser).TokenReset(data)
	if err != nil {
		s.bad(&s.badTokenReset, "system.tokenReset dropped: malformed", "error", err)
	}
	return tids, subject, err == nil
}

func (s *SystemEvents) patterns(list string, texts []string) []res.Pattern {
	patterns := make([]res.Pattern, 0, len(texts))
	for _, t := range texts {
		p, ok := res.ParsePattern(t)
		if !ok {
			s.bad(&s.badPattern, "system.reset: invalid pattern ignored", "list", list, "pattern", t)
			continue
		}
		patterns = append(patterns, p)
	}
	return patterns
}

// MatchAny returns a function that reports whether one of the patterns matches a resource name.
func MatchAny(patterns []res.Pattern) func(name string) bool {
	return func(name string) bool {
		for _, p := range patterns {
			if p.Match(name) {
				return true
			}
		}
		return false
	}
}
