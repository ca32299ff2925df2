// Command login has a secret that only those see who have signed in with a password. Signing out
// takes it away again, at once.
//
// Its service knows nothing of the gateway: the two talk through NATS.
package main

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"embed"
	"os"

	"github.com/jirenius/go-res"

	"sluice/internal/example"
)

//go:embed index.html
var web embed.FS

// token is a connection's token. A guest has one too, without a name: what replaces a token makes
// the gateway ask for access again, and a first token does not.
type token struct {
	Name string `json:"name"`
}

// account has a password's hash, never the password.
type account struct{ salt, hash []byte }

// rounds of the hash: as many as a login may cost.
const rounds = 100_000

func newAccount(password string) account {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // it never fails
	return account{salt, hash(password, salt)}
}

func hash(password string, salt []byte) []byte {
	key, err := pbkdf2.Key(sha256.New, password, salt, rounds, 32)
	if err != nil {
		panic(err) // only for wrong parameters
	}
	return key
}

func service() *res.Service {
	accounts := map[string]account{"ada": newAccount("engine")}
	unknown := newAccount("") // so that a name that does not exist takes as long as one that does

	s := res.NewService("login")
	s.Handle("secret",
		res.Access(func(r res.AccessRequest) {
			var t token
			r.ParseToken(&t)
			r.Access(t.Name != "", "")
		}),
		res.GetModel(func(r res.ModelRequest) { r.Model(map[string]string{"text": "The key is under the mat."}) }))
	s.Handle("session",
		res.Auth("login", func(r res.AuthRequest) {
			var p struct{ Name, Password string }
			r.ParseParams(&p)
			a, ok := accounts[p.Name]
			if !ok {
				a = unknown
			}
			if same := subtle.ConstantTimeCompare(hash(p.Password, a.salt), a.hash) == 1; !same || !ok {
				r.Error(&res.Error{Code: "login.wrong", Message: "Wrong name or password"})
				return
			}
			r.TokenEvent(token{Name: p.Name})
			r.OK(nil)
		}),
		res.Auth("logout", func(r res.AuthRequest) {
			r.TokenEvent(token{})
			r.OK(nil)
		}))
	return s
}

func main() { os.Exit(example.Run(web, service())) }
