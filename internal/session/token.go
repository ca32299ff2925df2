package session

import (
	"log/slog"
	"slices"
	"time"

	"sluice/fanout"
	"sluice/internal/limit"
	"sluice/internal/owner"
	"sluice/internal/res"
)

// grant is what a token has beside its content. Only few sessions have one.
type grant struct {
	s     *Session
	tid   string // token ID; "": none
	ends  time.Duration
	timer owner.Timer // end of the token, on Env.Wheel; idle: a service says when it ends
}

// Expire implements owner.Expirer.
func (g *grant) Expire(time.Duration) { g.s.SetToken("", "") }

// SetToken sets the client's token, raw JSON, or removes it if it is "". If the
// client had a token before, access to its direct subscriptions is rechecked.
// The token has no end: it is for those of services, which remove them.
func (s *Session) SetToken(token, tid string) {
	if s.closed {
		return
	}
	s.env.setGrant(s, tid, 0)
	s.env.setToken(s, token)
}

// Grant is SetToken for a token that the gateway itself has verified: it ends
// after ttl, as if a service had removed it; 0: it has no end. One that says the
// same as the present token only prolongs it.
func (s *Session) Grant(token, tid string, ttl time.Duration) {
	if s.closed {
		return
	}
	same := token == s.token() && tid == s.tid()
	s.env.setGrant(s, tid, ttl)
	if !same {
		s.env.setToken(s, token)
	}
}

func (env *Env) setToken(s *Session, token string) {
	before := env.Enter(s)
	had := s.token() != ""
	if had || token != "" {
		s.ensureRare().token = token
	}
	if had {
		for _, b := range s.subs.all() {
			if b.state != subDisposed {
				b.Reaccess(fanout.Changed)
			}
		}
	}
	env.Enter(before)
}

// ResetToken sends an auth request to subject for each session of the loop
// whose token ID is among tids (system.tokenReset). The service replies with
// token events.
func (env *Env) ResetToken(tids []string, subject string) {
	for _, tid := range tids {
		for s := range env.tokens[tid] {
			env.Attempt(func() {
				env.Enter(s)
				s.renewToken(subject)
			})
		}
	}
}

// RenewToken is ResetToken for one session.
func (env *Env) RenewToken(s *Session, tids []string, subject string) {
	if tid := s.tid(); tid != "" && !s.closed && slices.Contains(tids, tid) {
		before := env.Enter(s)
		s.renewToken(subject)
		env.Enter(before)
	}
}

// renewalsEvery is how often a loop logs failed auth requests of a token reset, of which each
// client makes one.
const renewalsEvery = time.Second

func (s *Session) renewToken(subject string) {
	r := res.AuthRequest{CallRequest: s.callRequest("", nil), NoParams: true}
	s.peer.Describe(&r)
	s.env.payload = res.AppendAuthRequest(s.env.payload[:0], r)
	s.env.Bus.Request(limit.Refresh, subject, subject, s.env.payload, func(_ []byte, err *res.Error) {
		if err != nil && !s.closed {
			s.env.badRenewal.Log(s.env.Log, slog.LevelError, s.env.Now(), renewalsEvery,
				"token reset: auth request failed; see that a service answers its subject", "subject", subject, "cid", s.cid, "error", err)
		}
	})
}

// setGrant sets the ID of a session's token, and when it ends; zero values: none.
func (env *Env) setGrant(s *Session, tid string, ttl time.Duration) {
	before := s.tid()
	env.tokens.move(s, before, tid)
	if g := s.grant(); g != nil {
		env.Wheel.Cancel(&g.timer)
		s.rare.grant = nil
	}
	if tid != "" || ttl > 0 {
		s.ensureRare().grant = &grant{s: s, tid: tid}
	}
	if tid != before {
		changed(s)
	}
	if ttl > 0 {
		g := s.rare.grant
		g.ends = env.Now() + ttl
		env.Wheel.Schedule(&g.timer, g.ends, g)
	}
}
