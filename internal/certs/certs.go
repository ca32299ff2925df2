// Package certs owns the certificates that TLS clients are shown: it reads them
// from files, chooses one for each handshake, and reads files again that have
// changed.
//
// It never handles a connection, and never runs on an event loop: it may read
// files.
package certs

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sluice/internal/owner"
)

// recheckEvery is how often the certificates' files are looked at, at most:
// a storm of handshakes costs one stat of each file a second.
const recheckEvery = time.Second

// Options say where the certificates are.
type Options struct {
	Certs []string // PEM files with a certificate and its chain each; the first is the default
	Keys  []string // PEM files with their private keys, in the same order
	Log   *slog.Logger
	Clock owner.Clock
}

// Store holds certificates, chosen by the name that a client asks for, and
// reads their files again when they have changed. Its methods are safe for
// concurrent use.
//
// Handshakes run on workers. The worker that finds the files due for a check
// makes it, and the others go on with the certificates in use.
type Store struct {
	// Fixed after construction.
	log   *slog.Logger
	clock owner.Clock

	current atomic.Pointer[set] // replaced as a whole
	due     atomic.Int64        // when the files are looked at again: time of clock

	mu    sync.Mutex // only ever tried, so nobody waits
	pairs []pair     // in the order of the setting
}

// pair is one certificate with its key, and the state of their files when
// they were read.
type pair struct {
	certFile, keyFile   string
	certStamp, keyStamp stamp             // of the files as they were read last
	settled             bool              // equal stamps mean that nothing has changed since
	sum                 [sha256.Size]byte // of the content in use
	certificate         *tls.Certificate
	failed              string // what was logged of the files as they are now; empty: they are in use
}

// set is an immutable choice of certificates.
type set struct {
	first  *tls.Certificate
	byName map[string][]*tls.Certificate // lower case; wildcards as "*.example.com"
}

// New reads the certificates. Unlike later, every fault is an error, and all
// are reported, each with what to do about it. There is a key for each
// certificate, and at least one.
func New(o Options) (*Store, error) {
	s := &Store{log: o.Log, clock: o.Clock, pairs: make([]pair, len(o.Certs))}
	var errs []error
	for i := range s.pairs {
		p := &s.pairs[i]
		p.certFile, p.keyFile = o.Certs[i], o.Keys[i]
		_, err := p.refresh()
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	for i := range s.pairs {
		s.announce("certificate", &s.pairs[i])
	}
	s.current.Store(newSet(s.pairs))
	s.due.Store(int64(s.clock.Now() + recheckEvery))
	return s, nil
}

// Config returns how to serve TLS with these certificates: 1.2 and 1.3, Go's
// choice of cipher suites, resumption by tickets, and the given protocols to
// choose from (ALPN), the favourite first. It must be one for all connections
// and not be copied: the keys that tickets are sealed with are its own.
func (s *Store) Config(protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: s.GetCertificate,
		NextProtos:     slices.Clone(protocols),
	}
}

// GetCertificate chooses a certificate for a client: of those for the name it
// asks for, exactly or by a wildcard, the first whose key it can use; without
// one, the first of all. Changed files are read first. Any goroutine may call
// it, but for an event loop: it may read files.
func (s *Store) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	s.recheck()
	in := s.current.Load()
	if hello.ServerName == "" {
		return in.first, nil
	}
	name := strings.TrimSuffix(strings.ToLower(hello.ServerName), ".")
	if c := usable(in.byName[name], hello); c != nil {
		return c, nil
	}
	if _, parent, ok := strings.Cut(name, "."); ok {
		if c := usable(in.byName["*."+parent], hello); c != nil {
			return c, nil
		}
	}
	return in.first, nil
}

// usable returns the first certificate that a client can use; if there is none,
// the first, whose handshake will say what is wrong.
func usable(certs []*tls.Certificate, hello *tls.ClientHelloInfo) *tls.Certificate {
	if len(certs) == 0 {
		return nil
	}
	if len(certs) > 1 {
		for _, c := range certs {
			if hello.SupportsCertificate(c) == nil {
				return c
			}
		}
	}
	return certs[0]
}

// recheck looks at the files if that is due and nobody is at it already.
func (s *Store) recheck() {
	if int64(s.clock.Now()) < s.due.Load() || !s.mu.TryLock() {
		return
	}
	defer s.mu.Unlock()
	now := s.clock.Now()
	if int64(now) < s.due.Load() {
		return // somebody else was at it just now
	}
	changed := false
	for i := range s.pairs {
		p := &s.pairs[i]
		switch read, err := p.refresh(); {
		case err == nil && read:
			changed, p.failed = true, ""
			s.announce("certificate reloaded", p)
		case err == nil:
			p.failed = ""
		case err.Error() != p.failed:
			p.failed = err.Error()
			s.log.Error("the certificate that was read before stays in use", "error", err)
		}
	}
	if changed {
		s.current.Store(newSet(s.pairs))
	}
	s.due.Store(int64(s.clock.Now() + recheckEvery))
}

// announce logs a certificate that has come into use.
func (s *Store) announce(what string, p *pair) {
	leaf := p.certificate.Leaf
	level := slog.LevelInfo
	if time.Now().After(leaf.NotAfter) {
		level, what = slog.LevelWarn, what+" has expired: clients will refuse it"
	}
	s.log.Log(context.Background(), level, what, "file", p.certFile, "names", strings.Join(names(leaf), " "), "expires", leaf.NotAfter.UTC().Format(time.DateOnly))
}

// refresh reads the pair's files if they may have changed; read reports whether
// there is a new certificate. On an error the pair keeps its certificate, and the
// next call tries again whatever the files' stamps are: a file that was half
// written, or not readable, may be mended within the clock's grain.
func (p *pair) refresh() (read bool, err error) {
	// The stamps are taken before the content: a write in between shows as a
	// change the next time.
	now := time.Now()
	certStamp, keyStamp := stampOf(p.certFile), stampOf(p.keyFile)
	if p.settled && certStamp == p.certStamp && keyStamp == p.keyStamp {
		return false, nil
	}
	p.settled = false
	certPEM, certErr := os.ReadFile(p.certFile)
	keyPEM, keyErr := os.ReadFile(p.keyFile)
	if certErr != nil || keyErr != nil {
		return false, errors.Join(unreadable("tlsCert", certErr), unreadable("tlsKey", keyErr))
	}
	sum := sha256.Sum256(slices.Concat(certPEM, []byte{0}, keyPEM))
	if read = p.certificate == nil || sum != p.sum; read {
		certificate, err := tls.X509KeyPair(certPEM, keyPEM)
		if err != nil {
			return false, p.explain(err, certPEM, keyPEM)
		}
		p.certificate, p.sum = &certificate, sum
	}
	p.certStamp, p.keyStamp = certStamp, keyStamp
	p.settled = certStamp.settled(now) && keyStamp.settled(now)
	return read, nil
}

// unreadable says what to do about a file that cannot be read.
func unreadable(setting string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: %w: name a file that is there", setting, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: %w: let the user that runs Sluice read it", setting, err)
	}
	return fmt.Errorf("%s: %w", setting, err)
}

// explain says what to do about a pair that Go does not take. It never shows
// what is in the files.
func (p *pair) explain(err error, certPEM, keyPEM []byte) error {
	certs, keys, encrypted := blocks(certPEM)
	_, keysOfKey, encryptedKey := blocks(keyPEM)
	switch {
	case certs == 0 && keys > 0:
		return fmt.Errorf("tlsCert %s holds a private key and no certificate: are tlsCert and tlsKey exchanged?", p.certFile)
	case certs == 0:
		return fmt.Errorf("tlsCert %s holds no certificate in PEM form (-----BEGIN CERTIFICATE-----): convert it with openssl x509, or name another file", p.certFile)
	case keysOfKey == 0 && encryptedKey || keysOfKey > 0 && encrypted:
		return fmt.Errorf("tlsKey %s is protected by a password: remove it with openssl pkey -in %[1]s -out <new file>, and name the new file", p.keyFile)
	case keysOfKey == 0:
		return fmt.Errorf("tlsKey %s holds no private key in PEM form (-----BEGIN PRIVATE KEY-----): name another file", p.keyFile)
	}
	if strings.Contains(err.Error(), "does not match") {
		return fmt.Errorf("tlsKey %s is not the key of tlsCert %s: list keys in the order of their certificates, and in each file the server's own certificate first", p.keyFile, p.certFile)
	}
	return fmt.Errorf("tlsCert %s with tlsKey %s: %w", p.certFile, p.keyFile, err)
}

// blocks counts what a PEM file holds, and tells whether a key in it is
// encrypted; such a key is not counted.
func blocks(text []byte) (certs, keys int, encrypted bool) {
	for {
		var b *pem.Block
		if b, text = pem.Decode(text); b == nil {
			return certs, keys, encrypted
		}
		switch {
		case b.Type == "CERTIFICATE":
			certs++
		case b.Type == "ENCRYPTED PRIVATE KEY", strings.Contains(b.Headers["Proc-Type"], "ENCRYPTED"):
			encrypted = true
		case strings.HasSuffix(b.Type, "PRIVATE KEY"):
			keys++
		}
	}
}

// newSet arranges the pairs' certificates by name. Several for one name stay
// in the order of the setting.
func newSet(pairs []pair) *set {
	s := &set{first: pairs[0].certificate, byName: map[string][]*tls.Certificate{}}
	for i := range pairs {
		c := pairs[i].certificate
		for _, name := range names(c.Leaf) {
			s.byName[name] = append(s.byName[name], c)
		}
	}
	return s
}

// names returns the host names a certificate is for, in lower case, each
// once. The subject's name counts only if there are no others, as for old
// certificates.
func names(leaf *x509.Certificate) []string {
	names := leaf.DNSNames
	if len(names) == 0 && leaf.Subject.CommonName != "" {
		names = []string{leaf.Subject.CommonName}
	}
	var out []string
	for _, n := range names {
		if n = strings.TrimSuffix(strings.ToLower(n), "."); !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}
