// Package certs owns the server's TLS certificates: it reads them from files, selects one for each
// handshake, and reloads files that have changed.
//
// The choice by name is our own, behind tls.Config.GetCertificate. With several
// tls.Config.Certificates, returned by GetConfigForClient after a reload, crypto/tls could choose
// instead. It checks one certificate after the other in each handshake, takes a wildcard before an
// exact name that is listed later, and ignores a certificate that has only a common name. Here an
// exact name wins, and a handshake costs two map lookups.
//
// It never handles a connection, and never runs on an event loop: it may read files.
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

// recheckEvery is the least interval between two checks of the files: a burst of handshakes costs
// one stat of each file a second.
const recheckEvery = time.Second

// Options configure a Store.
type Options struct {
	Certs []string // PEM files with a certificate and its chain each; the first is the default
	Keys  []string // PEM files with their private keys, in the same order
	Log   *slog.Logger
	Clock owner.Clock
	Quiet bool // New does not log the certificates: Announce does, when they come into use
}

// Store selects certificates by server name, and reloads their files when they have changed. Its
// methods are safe for concurrent use.
//
// Handshakes run on workers. The worker that finds a check of the files due makes it; the others
// use the current certificates.
type Store struct {
	// Fixed after construction.
	log   *slog.Logger
	clock owner.Clock

	current atomic.Pointer[set] // replaced as a whole
	due     atomic.Int64        // time of the next check of the files, of clock

	mu    sync.Mutex // handshakes only try it, so none waits
	pairs []pair     // in the order of the setting
}

// pair is one certificate with its key, and the state of their files when they were read.
type pair struct {
	certFile, keyFile   string
	certStamp, keyStamp stamp             // of the files as they were read last
	settled             bool              // equal stamps mean that nothing has changed since
	sum                 [sha256.Size]byte // of the content in use
	certificate         *tls.Certificate
	failed              string // the error logged for the current files; empty: they are in use
}

// set is an immutable choice of certificates.
type set struct {
	first  *tls.Certificate
	byName map[string][]*tls.Certificate // lower case; wildcards as "*.example.com"
	expiry time.Time                     // of the one that expires first
}

// New reads the certificates. Unlike a reload, it fails on any fault, and reports all of them with
// what to do. Options name at least one certificate, and a key for each.
func New(o Options) (*Store, error) {
	s := &Store{log: o.Log, clock: o.Clock, pairs: make([]pair, len(o.Certs))}
	var errs []error
	for i := range s.pairs {
		p := &s.pairs[i]
		p.certFile, p.keyFile = o.Certs[i], o.Keys[i]
		_, err := p.refresh(s.clock.Wall())
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if !o.Quiet {
		s.Announce()
	}
	s.current.Store(newSet(s.pairs))
	s.due.Store(int64(s.clock.Now() + recheckEvery))
	return s, nil
}

// Announce logs the certificates: for a store with Options.Quiet, when it comes into use.
func (s *Store) Announce() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.pairs {
		s.announce("certificate", &s.pairs[i])
	}
}

// Replace makes s select the certificates of next from the next handshake on, and follow their
// files. next must not be used any more. It may wait for a check of the files.
func (s *Store) Replace(next *Store) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pairs = next.pairs
	for i := range s.pairs {
		s.announce("certificate", &s.pairs[i])
	}
	s.current.Store(next.current.Load())
	s.due.Store(next.due.Load())
}

// Expiry returns when the first of the certificates in use expires. Any goroutine may call it.
func (s *Store) Expiry() time.Time { return s.current.Load().expiry }

// Config returns a server configuration with these certificates: TLS 1.2 and 1.3, Go's cipher
// suites, session tickets, and the given ALPN protocols in order of preference. All connections
// must share it uncopied, since it holds the keys of session tickets.
func (s *Store) Config(protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: s.GetCertificate,
		NextProtos:     slices.Clone(protocols),
	}
}

// GetCertificate implements tls.Config.GetCertificate. Of the certificates for the server name,
// exact before wildcard, it returns the first whose key the client supports; without one, the first
// of all. It reloads changed files before, so an event loop must not call it.
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

// usable returns the first certificate that the client supports. If there is none, it returns the
// first, so that the handshake fails with the reason.
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

// recheck checks the files if that is due and no other worker does.
func (s *Store) recheck() {
	if int64(s.clock.Now()) < s.due.Load() || !s.mu.TryLock() {
		return
	}
	defer s.mu.Unlock()
	now := s.clock.Now()
	if int64(now) < s.due.Load() {
		return // another worker has just checked them
	}
	changed := false
	for i := range s.pairs {
		p := &s.pairs[i]
		switch read, err := p.refresh(s.clock.Wall()); {
		case err == nil && read:
			changed, p.failed = true, ""
			s.announce("certificate reloaded", p)
		case err == nil:
			p.failed = ""
		case err.Error() != p.failed:
			p.failed = err.Error()
			s.log.Error("cannot reload a certificate; the previous one stays in use", "error", err)
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
	if s.clock.Wall().After(leaf.NotAfter) {
		level, what = slog.LevelWarn, what+" has expired: clients will reject it"
	}
	s.log.Log(context.Background(), level, what, "file", p.certFile, "names", strings.Join(names(leaf), " "), "expires", leaf.NotAfter.UTC().Format(time.DateOnly))
}

// refresh reads the pair's files if they may have changed; read reports whether there is a new
// certificate. On an error the pair keeps its certificate, and the next call tries again whatever
// the files' stamps are: a file that was half written, or unreadable, may be repaired within the
// granularity of timestamps.
func (p *pair) refresh(now time.Time) (read bool, err error) {
	// The stamps are taken before the content: a write in between shows as a change the next time.
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

// unreadable adds to a read error what to do about it.
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

// explain returns an error that says what to do about a pair that crypto/tls rejects. It never
// quotes the files.
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

// blocks counts the certificates and keys in PEM text. encrypted reports whether it has an
// encrypted key, which is not counted.
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

// newSet indexes the pairs' certificates by name. Several for one name keep the order of the
// setting.
func newSet(pairs []pair) *set {
	s := &set{first: pairs[0].certificate, byName: map[string][]*tls.Certificate{}}
	for i := range pairs {
		c := pairs[i].certificate
		if i == 0 || c.Leaf.NotAfter.Before(s.expiry) {
			s.expiry = c.Leaf.NotAfter
		}
		for _, name := range names(c.Leaf) {
			s.byName[name] = append(s.byName[name], c)
		}
	}
	return s
}

// names returns the host names of a certificate, in lower case and without duplicates. The common
// name counts only if there are no others, as in old certificates.
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
