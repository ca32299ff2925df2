package demo

import (
	"encoding/json"
	"log/slog"

	"github.com/jirenius/go-res"
)

// maxName is the longest name one may sign in with, in characters.
const maxName = 24

// tokenID marks the tokens that the demo gives out, so that a token reset finds the connections that hold one.
const tokenID = "sluice-demo"

// missedRolls is how many roll calls in a row a connection may leave unanswered before it counts as gone. One may be
// late or lost in a reconnect; two are not.
const missedRolls = 2

// token is what the gateway keeps for a connection and sends with each of its requests. An empty name is a guest.
type token struct {
	Name string `json:"name"`
}

// hasToken tells whether the gateway sent a token. A gateway may say that there is none by null.
func hasToken(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

// parseToken reads a token. What is not one of ours, by form or because there is none, makes a guest.
func parseToken(raw json.RawMessage) token {
	var t token
	if !hasToken(raw) || json.Unmarshal(raw, &t) != nil {
		return token{}
	}
	return t
}

// session is one connection that introduced itself.
type session struct {
	name string
	seen int // last roll call it answered, or the one during which it came
}

// model is the session as its client sees it.
func (s *session) model() map[string]any {
	return map[string]any{"name": s.name, "canEdit": s.name != ""}
}

// register knows who is connected. The group owns it.
//
// RES has no message that tells a service of a connection's begin and end, and a heartbeat by the client would
// fail where browsers put timers to sleep. So the gateway is asked, with the means RES has for tokens. A client
// introduces itself by subscribing to demo.session.{cid}. It gets a guest token, marked with tokenID. A token reset for
// that mark makes every gateway send an auth request for every live connection that holds such a token: a roll call,
// answered without any help from the client. A connection that is missing from it is gone. The token also says who had
// signed in, so a restarted service learns its sessions anew.
type register struct {
	svc      *res.Service
	log      *slog.Logger
	limit    int
	round    int
	sessions map[string]*session // by cid
	told     counts              // what demo.clients says
}

type counts struct {
	Connected int `json:"connected"`
	SignedIn  int `json:"signedIn"`
}

func newRegister(svc *res.Service, limit int, log *slog.Logger) *register {
	g := &register{svc: svc, log: log, limit: limit, sessions: map[string]*session{}}
	svc.Handle("session.$cid",
		res.Group(group),
		res.Access(g.access),
		res.GetModel(g.get),
		res.Auth("login", g.login),
		res.Auth("logout", g.logout))
	svc.Handle("clients",
		res.Group(group),
		res.Access(func(r res.AccessRequest) { r.Access(true, "") }),
		res.GetModel(func(r res.ModelRequest) { r.Model(g.told) }))
	svc.Handle("roll",
		res.Group(group),
		res.Auth("present", g.present))
	return g
}

// access lets a connection see its own session only, and takes note of it. The request's cid comes from the gateway,
// so it can be trusted; the name's cid may be a guess of the client. HTTP requests end with their answer: they
// are not sessions.
func (g *register) access(r res.AccessRequest) {
	if r.CID() != r.PathParam("cid") {
		r.AccessDenied()
		return
	}
	if !r.IsHTTP() {
		t := parseToken(r.RawToken())
		if g.meet(r.CID(), t.Name) && !hasToken(r.RawToken()) {
			g.svc.TokenEventWithID(r.CID(), tokenID, token{})
		}
	}
	r.Access(true, "")
}

// get shows a session. The gateway asks access and content at the same time, so the session may not be known
// yet: it is a guest's then.
func (g *register) get(r res.ModelRequest) {
	s := g.sessions[r.PathParam("cid")]
	if s == nil {
		s = &session{}
	}
	r.Model(s.model())
}

func (g *register) login(r res.AuthRequest) {
	g.rename(r, parseParams(r.RawParams(), "name").text("name", maxName))
}

func (g *register) logout(r res.AuthRequest) {
	parseParams(r.RawParams())
	g.rename(r, "")
}

// rename gives the connection a new token, which makes the gateway ask anew what it may do, and shows the new
// name in its session.
func (g *register) rename(r res.AuthRequest, name string) {
	cid := r.CID()
	if cid != r.PathParam("cid") || r.IsHTTP() {
		r.Error(res.ErrAccessDenied)
		return
	}
	if !g.meet(cid, parseToken(r.RawToken()).Name) {
		r.Error(&res.Error{Code: serviceName + ".full", Message: "Too many clients are connected"})
		return
	}
	s := g.sessions[cid]
	g.svc.TokenEventWithID(cid, tokenID, token{Name: name})
	if s.name != name {
		s.name = name
		r.ChangeEvent(s.model())
		g.count()
	}
	r.OK(nil)
}

// meet takes note of a connection and reports whether it is known now: above the limit, new ones are not.
func (g *register) meet(cid, name string) bool {
	if s := g.sessions[cid]; s != nil {
		s.seen = g.round
		return true
	}
	if len(g.sessions) >= g.limit {
		return false
	}
	s := &session{name: name, seen: g.round}
	g.sessions[cid] = s
	if name != "" {
		// Its resource may have been shown as a guest's, if the gateway asked for it right after we started.
		resourceOf(g.svc, serviceName+".session."+cid).ChangeEvent(s.model())
	}
	g.count()
	return true
}

// present is a connection's answer to the roll call, given by its gateway.
func (g *register) present(r res.AuthRequest) {
	g.meet(r.CID(), parseToken(r.RawToken()).Name)
	r.OK(nil)
}

// roll forgets those that missed the last roll calls and calls the next one.
func (g *register) roll() {
	for cid, s := range g.sessions {
		if g.round-s.seen >= missedRolls {
			delete(g.sessions, cid)
		}
	}
	g.count()
	if len(g.sessions) >= g.limit {
		g.log.Warn("demo: more clients than are counted", "limit", g.limit)
	}
	g.round++
	g.svc.TokenReset("auth."+serviceName+".roll.present", tokenID)
}

// count brings demo.clients up to date.
func (g *register) count() {
	now := counts{Connected: len(g.sessions)}
	for _, s := range g.sessions {
		if s.name != "" {
			now.SignedIn++
		}
	}
	changed := map[string]any{}
	if now.Connected != g.told.Connected {
		changed["connected"] = now.Connected
	}
	if now.SignedIn != g.told.SignedIn {
		changed["signedIn"] = now.SignedIn
	}
	if len(changed) == 0 {
		return
	}
	g.told = now
	resourceOf(g.svc, serviceName+".clients").ChangeEvent(changed)
}
