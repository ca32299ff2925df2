package demo

import (
	"encoding/json"
	"log/slog"

	"github.com/jirenius/go-res"
)

// maxName is the maximum length of a user's name in characters.
const maxName = 24

// tokenID is the token ID of all tokens that the demo issues: a token reset finds the connections
// by it.
const tokenID = "sluice-demo"

// missedRolls is the number of consecutive roll calls a connection may miss before it counts as
// gone. One may be late or lost in a reconnect; two are not.
const missedRolls = 2

// token is the token of a connection, which the gateway sends with each of its requests. An empty
// name is a guest.
type token struct {
	Name string `json:"name"`
}

// hasToken reports whether the request carries a token; null means none.
func hasToken(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

// parseToken parses a token. A missing or foreign token makes a guest.
func parseToken(raw json.RawMessage) token {
	var t token
	if !hasToken(raw) || json.Unmarshal(raw, &t) != nil {
		return token{}
	}
	return t
}

// session is a connection that has subscribed to its session resource.
type session struct {
	name string
	seen int // last roll call it answered, or the current one when it joined
}

// model returns the session as its client sees it.
func (s *session) model() map[string]any {
	return map[string]any{"name": s.name, "canEdit": s.name != ""}
}

// register tracks who is connected. The group owns it.
//
// RES notifies a service neither of a connection's start nor of its end, and heartbeats by the
// client would fail where browsers throttle timers. So the demo asks the gateways, by way of
// tokens. A client joins by subscribing to demo.session.{cid} and gets a guest token with tokenID.
// A token reset of that ID makes every gateway send an auth request for each open connection with
// such a token: a roll call that needs no help from the client. A connection that misses it is
// gone. The token also holds the user's name, so a restarted service recovers its sessions.
type register struct {
	svc      *res.Service
	log      *slog.Logger
	limit    int
	round    int
	sessions map[string]*session // by cid
	told     counts              // the published value of demo.clients
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

// access grants a connection its own session only, and registers it. The request's cid comes from
// the gateway and can be trusted; the cid in the resource name may be the client's guess. HTTP
// requests end with their response, so they are not sessions.
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

// get returns a session. The access request may still be pending, and the session not yet
// registered: then it is a guest's.
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

// rename issues a new token, which makes the gateway request access again, and updates the name in
// the session.
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

// meet registers a connection and reports whether it is registered: beyond the limit, new ones are
// not.
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
		// Right after a start its resource may have been served as a guest's.
		resourceOf(g.svc, serviceName+".session."+cid).ChangeEvent(s.model())
	}
	g.count()
	return true
}

// present handles a connection's answer to the roll call, sent by its gateway.
func (g *register) present(r res.AuthRequest) {
	g.meet(r.CID(), parseToken(r.RawToken()).Name)
	r.OK(nil)
}

// roll drops connections that missed too many roll calls, and starts the next one.
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

// count updates demo.clients.
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
