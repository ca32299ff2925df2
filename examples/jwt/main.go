// Command jwt has a plan that only those see whose roles say so, by JSON Web Tokens (JWT) that the
// gateway verifies itself. A login server signs them. They end soon, and the page renews its own
// before.
//
// The login server is in this process, and stands in for yours. It shares with the gateway only a
// file of public keys. The service never sees a token: its requests have the claims.
package main

import (
	"embed"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/jirenius/go-res"

	"sluice/gateway"
	"sluice/internal/example"
)

//go:embed index.html
var web embed.FS

// claims are what the service gets as a connection's token; null if nobody has signed in.
type claims struct {
	Name  string   `json:"name"`
	Roles []string `json:"roles"`
}

func service() *res.Service {
	plan := map[string]string{"text": "Repair the upper gate."}
	s := res.NewService("jwt")
	s.Handle("plan",
		res.Access(func(r res.AccessRequest) {
			var c claims
			r.ParseToken(&c)
			switch {
			case slices.Contains(c.Roles, "editor"):
				r.Access(true, "set")
			case slices.Contains(c.Roles, "reader"):
				r.Access(true, "")
			default:
				r.AccessDenied()
			}
		}),
		res.GetModel(func(r res.ModelRequest) { r.Model(plan) }),
		res.Call("set", func(r res.CallRequest) {
			var p struct{ Text string }
			r.ParseParams(&p)
			if p.Text == "" || len(p.Text) > 200 {
				r.InvalidParams("A plan has 1 to 200 characters")
				return
			}
			plan["text"] = p.Text
			r.ChangeEvent(map[string]any{"text": p.Text})
			r.OK(nil)
		}),
	)
	return s
}

func run() (code int, err error) {
	lifetime := flag.Duration("lifetime", time.Minute, "of a token")
	login := newLogin(lifetime)
	dir, err := os.MkdirTemp("", "sluice-jwt-")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	keys := filepath.Join(dir, "jwks.json") // most login servers have a URL instead
	if err := os.WriteFile(keys, login.jwks(), 0o600); err != nil {
		return 0, err
	}
	return example.Run(web, service(), func(c *gateway.Config) {
		c.JWTJWKS, c.JWTIssuer, c.JWTAudience = keys, issuer, []string{audience}
		c.JWTClaims = []string{"name", "roles"} // without exp, so that a renewed token is the same to services
		c.JWTMethod = "gateway.login"           // takes a token from a live connection
		c.JWTAnonymous = "missing"              // the page connects before anyone signs in
		c.JWTClockSkew = 3 * time.Second        // of the login server's clock
		c.Pages = login.beside(c.Pages)
	}), nil
}

func main() {
	code, err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}
