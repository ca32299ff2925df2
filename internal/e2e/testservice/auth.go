package main

import (
	"net/http"

	"github.com/jirenius/go-res"
)

// token is the connection token of a signed-in client.
type token struct {
	User  string `json:"user"`
	Admin bool   `json:"admin"`
}

// handleAuth adds a login, a model for signed-in clients, and one with a method for administrators.
func (l *library) handleAuth(handle func(string, ...res.Option)) {
	handle("auth",
		res.Auth("login", func(r res.AuthRequest) {
			var p struct{ User, Password string }
			r.ParseParams(&p)
			if p.Password != "secret" {
				r.Error(&res.Error{Code: "lib.badLogin", Message: "Wrong user or password"})
				return
			}
			r.TokenEvent(token{User: p.User, Admin: p.User == "root"})
			r.OK(map[string]string{"user": p.User})
		}),
		res.Auth("logout", func(r res.AuthRequest) {
			r.TokenEvent(nil)
			r.OK(nil)
		}),
		// cookie signs in the user in the cookie "user" of the HTTP request; without the cookie it
		// does nothing.
		res.Auth("cookie", func(r res.AuthRequest) {
			request := http.Request{Header: r.Header()}
			if c, err := request.Cookie("user"); err == nil {
				r.TokenEvent(token{User: c.Value, Admin: c.Value == "root"})
			}
			r.OK(nil)
		}),
		// whence returns the members of the auth request that describe the client's HTTP request.
		res.Auth("whence", func(r res.AuthRequest) {
			r.OK(map[string]any{"host": r.Host(), "uri": r.URI(), "agent": r.Header()["User-Agent"], "remote": r.RemoteAddr() != ""})
		}))
	secret := map[string]any{"word": "sesame"}
	handle("secret",
		res.Access(func(r res.AccessRequest) {
			var t token
			r.ParseToken(&t)
			switch {
			case t.Admin:
				r.AccessGranted()
			case t.User != "":
				r.Access(true, "read")
			default:
				r.AccessDenied()
			}
		}),
		res.GetModel(func(r res.ModelRequest) { r.Model(secret) }),
		res.Call("read", func(r res.CallRequest) { r.OK(secret["word"]) }),
		res.Call("set", func(r res.CallRequest) {
			var p struct{ Word string }
			r.ParseParams(&p)
			secret["word"] = p.Word
			r.ChangeEvent(map[string]any{"word": p.Word})
			r.OK(nil)
		}))
	// A resource per connection, named by {cid}.
	handle("mine.$cid",
		res.Access(func(r res.AccessRequest) {
			if r.CID() == r.PathParam("cid") {
				r.AccessGranted()
			} else {
				r.AccessDenied()
			}
		}),
		res.GetModel(func(r res.ModelRequest) { r.Model(map[string]any{"private": true}) }),
		res.Call("touch", func(r res.CallRequest) {
			r.ChangeEvent(map[string]any{"private": false})
			r.OK(nil)
		}))
}
