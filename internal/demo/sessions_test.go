package demo

import (
	"fmt"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"sluice/internal/natstest"
)

const (
	guestToken = `{"token":{"name":""},"tid":"sluice-demo"}`
	adaToken   = `{"token":{"name":"Ada"},"tid":"sluice-demo"}`
)

func TestSessionBelongsToItsConnection(t *testing.T) {
	_, p := run(t, Options{})
	p.hear("conn.>", "event.demo.>")
	denied := failure("system.accessDenied", "Access denied")
	p.want("access.demo.session.c1", `{"cid":"c2"}`, denied)
	p.want("auth.demo.session.c1.login", `{"cid":"c2","params":{"name":"Ada"}}`, denied)
	p.want("auth.demo.session.c1.logout", `{"cid":"c2"}`, denied)
	// An HTTP request has a connection ID of its own, which cannot sign in and is not counted.
	p.want("access.demo.session.c1", `{"cid":"c1","isHttp":true}`, `{"result":{"get":true}}`)
	p.want("auth.demo.session.c1.login", `{"cid":"c1","isHttp":true,"params":{"name":"Ada"}}`, denied)

	p.want("access.demo.session.c1", `{"cid":"c1"}`, `{"result":{"get":true}}`)
	p.expect(`event.demo.clients.change {"values":{"connected":1}}`, `conn.c1.token `+guestToken)
}

func TestLogin(t *testing.T) {
	_, p := run(t, Options{})
	p.hear("conn.>", "event.demo.>")
	p.want("get.demo.session.c1", `{}`, `{"result":{"model":{"canEdit":false,"name":""}}}`) // may arrive before access
	p.want("access.demo.session.c1", `{"cid":"c1","token":null}`, `{"result":{"get":true}}`)
	p.expect(`event.demo.clients.change {"values":{"connected":1}}`, `conn.c1.token `+guestToken)

	for params, message := range map[string]string{
		`{}`:                                    "name is missing",
		`{"name":["Ada"]}`:                      "name must be a string",
		`{"name":"` + "   " + `"}`:              "name must not be empty",
		`{"name":"Ada","admin":1}`:              "params: only name",
		`{"name":"\u200eA\u2066B"}`:             "name must be one line of plain text",
		`{"name":"Ada Augusta King, Countess"}`: "name must not be longer than 24 characters",
	} {
		p.want("auth.demo.session.c1.login", `{"cid":"c1","token":{"name":""},"params":`+params+`}`,
			failure("system.invalidParams", message))
	}
	p.want("auth.demo.session.c1.login", `{"cid":"c1","token":{"name":""},"params":{"name":" Ada "}}`, `{"result":null}`)
	p.expect(`conn.c1.token `+adaToken,
		`event.demo.session.c1.change {"values":{"canEdit":true,"name":"Ada"}}`,
		`event.demo.clients.change {"values":{"signedIn":1}}`)
	p.want("get.demo.session.c1", `{}`, `{"result":{"model":{"canEdit":true,"name":"Ada"}}}`)
	p.want("get.demo.clients", `{}`, `{"result":{"model":{"connected":1,"signedIn":1}}}`)

	p.want("auth.demo.session.c1.logout", `{"cid":"c1","token":{"name":"Ada"},"params":{"all":true}}`,
		failure("system.invalidParams", "params: none are taken"))
	p.want("auth.demo.session.c1.logout", `{"cid":"c1","token":{"name":"Ada"}}`, `{"result":null}`)
	p.expect(`conn.c1.token `+guestToken,
		`event.demo.session.c1.change {"values":{"canEdit":false,"name":""}}`,
		`event.demo.clients.change {"values":{"signedIn":0}}`)
}

// gatewayOf answers roll calls for connections like a gateway.
type gatewayOf struct {
	mu    sync.Mutex
	conns map[string]string // token by cid
}

func (g *gatewayOf) set(cid, token string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if token == "" {
		delete(g.conns, cid)
	} else {
		g.conns[cid] = token
	}
}

func answerRolls(p *peer) *gatewayOf {
	p.t.Helper()
	g := &gatewayOf{conns: map[string]string{}}
	_, err := p.nc.Subscribe("system.tokenReset", func(m *nats.Msg) {
		call := decode[struct {
			TIDs    []string
			Subject string
		}](p.t, string(m.Data))
		if fmt.Sprint(call.TIDs) != "[sluice-demo]" {
			p.t.Errorf("roll call for %v", call.TIDs)
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		for cid, token := range g.conns {
			if err := p.nc.PublishRequest(call.Subject, nats.NewInbox(), fmt.Appendf(nil, `{"cid":%q,"token":%s}`, cid, token)); err != nil {
				p.t.Error(err)
			}
		}
	})
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.nc.Flush(); err != nil {
		p.t.Fatal(err)
	}
	return g
}

func TestRollCallFindsOutWhoLeft(t *testing.T) {
	_, p := run(t, Options{Roll: 20e6})
	g := answerRolls(p)
	p.hear("event.demo.clients.*")
	for i, cid := range []string{"a", "b", "c"} {
		g.set(cid, `{"name":""}`)
		p.want("access.demo.session."+cid, `{"cid":"`+cid+`"}`, `{"result":{"get":true}}`)
		p.expect(fmt.Sprintf(`event.demo.clients.change {"values":{"connected":%d}}`, i+1))
	}
	g.set("b", "")
	p.expect(`event.demo.clients.change {"values":{"connected":2}}`)
	// A dropped connection that answers, as after a NATS reconnect, is registered again under its
	// name.
	g.set("b", `{"name":"Bea"}`)
	p.expect(`event.demo.clients.change {"values":{"connected":3,"signedIn":1}}`)
}

// A restarted service recovers its sessions from the gateways' tokens, and corrects what it served
// before.
func TestRestartKeepsSessions(t *testing.T) {
	srv := natstest.Start(t)
	p := newPeer(t, srv)
	g := answerRolls(p)
	g.set("c1", `{"name":"Ada"}`)
	p.hear("event.demo.session.*.*")
	d := runOn(t, srv, Options{Roll: 20e6})
	p.expect(`event.demo.session.c1.change {"values":{"canEdit":true,"name":"Ada"}}`)
	d.Stop()
	runOn(t, srv, Options{Roll: 20e6})
	p.expect(`event.demo.session.c1.change {"values":{"canEdit":true,"name":"Ada"}}`)
	p.want("get.demo.clients", `{}`, `{"result":{"model":{"connected":1,"signedIn":1}}}`)
}

func TestClientCountIsBounded(t *testing.T) {
	_, p := run(t, Options{Clients: 2})
	for _, cid := range []string{"a", "b", "c"} {
		p.want("access.demo.session."+cid, `{"cid":"`+cid+`"}`, `{"result":{"get":true}}`)
	}
	p.want("get.demo.clients", `{}`, `{"result":{"model":{"connected":2,"signedIn":0}}}`)
	p.want("auth.demo.session.c.login", `{"cid":"c","params":{"name":"Cy"}}`, failure("demo.full", "Too many clients are connected"))
	p.want("auth.demo.session.a.login", `{"cid":"a","params":{"name":"Al"}}`, `{"result":null}`)
}
