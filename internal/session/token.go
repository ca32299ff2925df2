package session

import (
	"sluice/fanout"
	"sluice/internal/limit"
	"sluice/internal/res"
)

// SetToken sets the client's token, raw JSON, or removes it if it is "". If the
// client had a token before, access to its direct subscriptions is rechecked.
func (s *Session) SetToken(token, tid string) {
	if s.closed {
		return
	}
	before := s.env.Enter(s)
	had := s.token != ""
	s.token = token
	s.setTID(tid)
	if had {
		for _, b := range s.subs.all() {
			if b.state != subDisposed {
				b.Reaccess(fanout.Changed)
			}
		}
	}
	s.env.Enter(before)
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

func (s *Session) renewToken(subject string) {
	r := res.AuthRequest{CallRequest: s.callRequest("", nil), NoParams: true}
	s.peer.Describe(&r)
	s.env.payload = res.AppendAuthRequest(s.env.payload[:0], r)
	s.env.Bus.Request(limit.Refresh, subject, subject, s.env.payload, func(_ []byte, err *res.Error) {
		if err != nil && !s.closed {
			s.env.Log.Error("token reset: auth request failed; see that a service answers its subject", "subject", subject, "cid", s.cid, "err", err)
		}
	})
}

func (s *Session) setTID(tid string) {
	s.env.tokens.move(s, s.tid, tid)
	s.tid = tid
}
