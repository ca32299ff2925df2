package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// The login server's name, that of what its tokens are for, and that of its key.
const (
	issuer   = "https://login.example.com/"
	audience = "plan"
	keyID    = "1"
)

// maxSessions bounds those who are signed in.
const maxSessions = 1000

// sessionCookie is what a browser proves by that it has signed in.
const sessionCookie = "login"

type account struct {
	name     string
	password string // a real one keeps hashes, as the example "login" does
	roles    []string
}

var accounts = []account{
	{name: "ada", password: "engine", roles: []string{"reader", "editor"}},
	{name: "bob", password: "bridge", roles: []string{"reader"}},
}

// login is a login server: a password opens a session, and a session gives tokens.
type login struct {
	key      ed25519.PrivateKey
	lifetime *time.Duration // of a token

	mu       sync.Mutex
	sessions map[string]account // guarded by mu
}

func newLogin(lifetime *time.Duration) *login {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err) // it never fails
	}
	return &login{key: key, lifetime: lifetime, sessions: map[string]account{}}
}

// jwks returns the public key (RFC 7517, RFC 8037).
func (l *login) jwks() []byte {
	x := base64.RawURLEncoding.EncodeToString(l.key.Public().(ed25519.PublicKey))
	text, _ := json.Marshal(map[string]any{"keys": []any{map[string]string{
		"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": keyID, "x": x,
	}}})
	return text
}

// beside returns a handler of the login server's paths, which leaves all others to pages.
func (l *login) beside(pages http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", pages)
	mux.HandleFunc("POST /login", l.open)
	mux.HandleFunc("POST /token", l.token)
	mux.HandleFunc("POST /logout", l.close)
	return mux
}

// open handles a name and a password.
func (l *login) open(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 4096)
	for _, a := range accounts {
		if r.PostFormValue("name") != a.name || !same(r.PostFormValue("password"), a.password) {
			continue
		}
		id := rand.Text()
		l.mu.Lock()
		full := len(l.sessions) >= maxSessions
		if !full {
			l.sessions[id] = a
		}
		l.mu.Unlock()
		if full {
			http.Error(w, "Too many people are signed in", http.StatusServiceUnavailable)
			return
		}
		http.SetCookie(w, &http.Cookie{Name: sessionCookie, Value: id, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode}) // and Secure, with TLS
		w.WriteHeader(http.StatusNoContent)
		return
	}
	http.Error(w, "Wrong name or password", http.StatusForbidden)
}

// token gives a session a token. A page calls it again before that ends.
func (l *login) token(w http.ResponseWriter, r *http.Request) {
	a, ok := l.session(r)
	if !ok {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{
		"iss": issuer, "aud": audience, "sub": a.name, "exp": jwt.NewNumericDate(time.Now().Add(*l.lifetime)),
		"name": a.name, "roles": a.roles,
	})
	token.Header["kid"] = keyID
	signed, err := token.SignedString(l.key)
	if err != nil {
		http.Error(w, "The token cannot be signed", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(map[string]any{"token": signed, "seconds": l.lifetime.Seconds()})
}

// close ends a session. Its token is good until it ends by itself.
func (l *login) close(w http.ResponseWriter, r *http.Request) {
	if c, err := r.Cookie(sessionCookie); err == nil {
		l.mu.Lock()
		delete(l.sessions, c.Value)
		l.mu.Unlock()
	}
	w.WriteHeader(http.StatusNoContent)
}

func (l *login) session(r *http.Request) (account, bool) {
	c, err := r.Cookie(sessionCookie)
	if err != nil {
		return account{}, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	a, ok := l.sessions[c.Value]
	return a, ok
}

// same compares two texts in a time that does not say where they differ.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
