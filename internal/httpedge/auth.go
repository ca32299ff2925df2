package httpedge

import (
	"context"
	"encoding/json"
	"net/http"

	"sluice/internal/httpapi"
	"sluice/internal/jwtauth"
	"sluice/internal/res"
	"sluice/internal/session"
	"sluice/internal/tracing"
	"sluice/wsproto"
)

// authenticates reports whether clients are authenticated before they are served, by a token or by
// an auth method, which may be empty.
func (l *Loop) authenticates(method string) bool { return method != "" || l.edge.o.Tokens.On() }

// Authenticate authenticates a client before it is served: by the token that its request carries,
// if tokens are verified, and then with an auth request to a service (headerAuth, wsHeaderAuth),
// unless method is empty. The service sees the claims of the token, and may replace them: it has
// the last word. done gets what the service replied, or the rejection of the token in the same
// form. It may be called before Authenticate returns, and is not called if the session is closed.
func (l *Loop) Authenticate(s *session.Session, token, method string, done func(rid string, meta *res.Meta, err *res.Error)) {
	l.verify(s, l.edge.o.Tokens.Verify, token, func(o jwtauth.Outcome) {
		switch {
		case o != jwtauth.Valid:
			done("", o.Meta(), o.Err())
		case method == "":
			done("", nil, nil)
		default:
			rid, name := SplitMethod(method)
			s.Authenticate(rid, name, done)
		}
	})
}

// Upgrade authenticates a client by Authenticate, and accepts or rejects its upgrade to WebSocket,
// which the Handler has left pending. extension are field lines for the response.
func (l *Loop) Upgrade(p *Peer, s *session.Session, head *wsproto.Head, token, method, extension string) {
	api := l.edge.api
	var span *tracing.Span
	if l.env.Recorder != nil {
		span = l.beginSpan(http.MethodGet, l.edge.o.WSPath, headField(head), "", s.CID())
		defer l.env.Within(l.env.Within(span))
	}
	l.Authenticate(s, token, method, func(resource string, meta *res.Meta, err *res.Error) {
		resp := httpapi.Response{Header: make(http.Header)}
		if api.Direct(&resp, meta, resource, err) {
			l.endSpan(&span, resp.Status)
			p.conn.Refuse(resp.Status, string(httpapi.AppendFields(nil, resp.Header)), string(resp.Body))
			return
		}
		api.CheckStatus(meta, p.URI())
		httpapi.MergeHeader(resp.Header, meta)
		l.endSpan(&span, http.StatusSwitchingProtocols)
		p.conn.Accept(func(dst []byte) []byte { return httpapi.AppendFields(append(dst, extension...), resp.Header) })
	})
}

// verify has a token verified by check, and gives a valid one to the session before it calls done,
// on the loop.
func (l *Loop) verify(s *session.Session, check checker, token string, done func(jwtauth.Outcome)) {
	span := l.env.Span()
	o, decided := check(token, func(g jwtauth.Grant, o jwtauth.Outcome) {
		l.post(func() {
			if s.Closed() {
				return
			}
			before := l.env.Enter(s)
			l.env.Within(span)
			if g.Token != "" {
				s.Grant(g.Token, g.TID, g.TTL)
			}
			done(o)
			l.env.Within(nil)
			l.env.Enter(before)
		})
	})
	if decided {
		done(o)
	}
}

// checker is jwtauth.Auth.Verify or Renew.
type checker func(token string, done func(jwtauth.Grant, jwtauth.Outcome)) (o jwtauth.Outcome, decided bool)

// login handles the auth requests of jwtMethod (session.Env.Login). A token that is rejected leaves
// the client's present one as it is.
func (l *Loop) login(s *session.Session, rid, method string, params []byte, done func(err *res.Error)) bool {
	a := l.edge.o.Tokens
	if m := a.Method(); m == "" || len(m) != len(rid)+1+len(method) || m[:len(rid)] != rid || m[len(rid)+1:] != method {
		return false
	}
	var p struct {
		Token string `json:"token"`
	}
	if len(params) > 2*jwtauth.MaxToken || json.Unmarshal(params, &p) != nil || p.Token == "" {
		done(&res.Error{Code: res.CodeInvalidParams, Message: res.ErrInvalidParams.Message + `: want {"token":"…"}`})
		return true
	}
	l.verify(s, a.Renew, p.Token, func(o jwtauth.Outcome) { done(o.Err()) })
	return true
}

// headerFields are the fields of a request at net/http (jwtauth.Fields).
type headerFields http.Header

// Each implements jwtauth.Fields.
func (h headerFields) Each(f func(name, value []byte)) {
	for name, values := range h {
		for _, v := range values {
			f([]byte(name), []byte(v))
		}
	}
}

type tokenKey struct{}

// takeToken moves the token of a request at net/http from the request to its context, so that no
// service gets it and no resource has it in its query.
func (e *Edge) takeToken(r *http.Request) *http.Request {
	found := e.o.Tokens.Find([]byte(r.RequestURI), headerFields(r.Header))
	if found.Place == jwtauth.Nowhere {
		return r
	}
	header := make(http.Header, len(r.Header))
	found.Fields(headerFields(r.Header)).Each(func(name, value []byte) { header[string(name)] = append(header[string(name)], string(value)) })
	r = r.WithContext(context.WithValue(r.Context(), tokenKey{}, found.Token))
	r.Header, r.RequestURI = header, string(found.Target([]byte(r.RequestURI)))
	u := *r.URL
	u.RawQuery = found.Query(u.RawQuery)
	r.URL = &u
	return r
}

// tokenOf returns the token that takeToken has found; empty if there is none.
func tokenOf(r *http.Request) string {
	token, _ := r.Context().Value(tokenKey{}).(string)
	return token
}

// authenticate is Authenticate for a request with its meta. start is called unless the meta ends
// the request; also without a token of the service: access decides.
func (l *Loop) authenticate(s *session.Session, token string, ended func(meta *res.Meta, err *res.Error), start func(meta *res.Meta)) {
	e := l.edge
	l.Authenticate(s, token, e.o.HeaderAuth, func(resource string, meta *res.Meta, err *res.Error) {
		if meta = e.api.Redirected(meta, resource); httpapi.Ends(meta) {
			ended(meta, err)
			return
		}
		start(meta)
	})
}
