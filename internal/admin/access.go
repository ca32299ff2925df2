package admin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"

	"sluice/internal/certs"
	"sluice/internal/config"
	"sluice/internal/owner"
)

// minToken is the least length of the token, in bytes.
const minToken = 16

// access is what a client of the port has to show. It is immutable; a reload replaces it as a
// whole.
type access struct {
	token *[sha256.Size]byte // hash of the token; nil: none is needed
	tls   *tls.Config        // nil: plaintext
	files tlsFiles           // of tls
	fresh *certs.Store       // of tls, to be announced; nil: it is in use already
}

// tlsFiles are what a TLS configuration was made of.
type tlsFiles struct {
	cert, key, ca string
	sum           [sha256.Size]byte // of ca's content
}

// mutual reports whether clients need a certificate.
func (a *access) mutual() bool { return a.tls != nil && a.tls.ClientAuth != tls.NoClientCert }

// newAccess reads the files of the settings. If those of TLS are the same as before, so is the
// configuration, and connections stay. before is nil at the start. The error names the setting of a
// file that cannot be used.
func newAccess(c *config.Config, before *access, clock owner.Clock, log *slog.Logger) (*access, error) {
	a := new(access)
	if c.AdminTokenFile != "" {
		token, err := readToken(c.AdminTokenFile)
		if err != nil {
			return nil, fmt.Errorf("adminTokenFile: %w", err)
		}
		hash := sha256.Sum256([]byte(token))
		a.token = &hash
	}
	if c.AdminTLSCert == "" {
		return a, nil
	}
	a.files = tlsFiles{cert: c.AdminTLSCert, key: c.AdminTLSKey, ca: c.AdminClientCA}
	var authorities *x509.CertPool
	if c.AdminClientCA != "" {
		text, err := os.ReadFile(c.AdminClientCA)
		if err != nil {
			return nil, fmt.Errorf("adminClientCa: %w: name a file that can be read", err)
		}
		if authorities = x509.NewCertPool(); !authorities.AppendCertsFromPEM(text) {
			return nil, errors.New("adminClientCa: the file has no certificate in PEM form")
		}
		a.files.sum = sha256.Sum256(text)
	}
	if before != nil && a.files == before.files {
		a.tls = before.tls
		return a, nil
	}
	store, err := certs.New(certs.Options{Certs: []string{c.AdminTLSCert}, Keys: []string{c.AdminTLSKey}, Log: log, Clock: clock, Quiet: before != nil})
	if err != nil {
		return nil, fmt.Errorf("adminTlsCert, adminTlsKey: %w", err)
	}
	if before != nil {
		a.fresh = store
	}
	a.tls = store.Config("http/1.1")
	if authorities != nil {
		a.tls.ClientCAs, a.tls.ClientAuth = authorities, tls.RequireAndVerifyClientCert
	}
	return a, nil
}

// readToken reads the token from a file. The error does not quote it.
func readToken(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("%w: name a file that can be read", err)
	}
	token := strings.TrimSpace(string(text))
	if len(token) < minToken || strings.ContainsAny(token, " \t\r\n") {
		return "", fmt.Errorf("the file must have one token of at least %d characters without white space: openssl rand -hex 24 makes one", minToken)
	}
	return token, nil
}

// has reports whether a request has the token.
func (a *access) has(r *http.Request) bool {
	kind, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	hash := sha256.Sum256([]byte(strings.TrimSpace(token)))
	return strings.EqualFold(kind, "Bearer") && subtle.ConstantTimeCompare(hash[:], a.token[:]) == 1
}

// Prepare reads the files of new settings, and returns what has the server use them: for the next
// request, and as far as TLS is concerned for the next connection.
func (s *Server) Prepare(c *config.Config) (commit func(), err error) {
	if s == nil {
		return func() {}, nil
	}
	next, err := newAccess(c, s.access.Load(), s.clock, s.log)
	if err != nil {
		return nil, err
	}
	return func() {
		s.access.Store(next)
		if next.fresh != nil {
			next.fresh.Announce()
		}
	}, nil
}

// listener accepts connections with or without TLS, as the settings are at that time.
type listener struct {
	net.Listener
	s *Server
}

// Accept implements net.Listener.
func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.s.accepted = l.s.access.Load().tls
	if l.s.accepted != nil {
		return tls.Server(c, l.s.accepted), nil
	}
	return c, nil
}

type acceptedKey struct{}

// connContext notes for the requests of a connection how it was accepted.
func (s *Server) connContext(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, acceptedKey{}, s.accepted)
}

// outdated reports whether the connection of a request was accepted with other settings of TLS.
func (a *access) outdated(r *http.Request) bool {
	accepted, _ := r.Context().Value(acceptedKey{}).(*tls.Config)
	return accepted != a.tls
}
