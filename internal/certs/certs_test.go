package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/internal/owner"
)

// files is a self-signed certificate in files.
type files struct {
	t         *testing.T
	cert, key string
}

// newFiles writes the files of a certificate for names into a new folder.
func newFiles(t *testing.T, names ...string) files {
	dir := t.TempDir()
	f := files{t, filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	f.write(newKeyPair(t, 1, names...))
	return f
}

// keyPair is a certificate and its key in PEM form.
type keyPair struct{ cert, key []byte }

func newKeyPair(t *testing.T, serial int64, names ...string) keyPair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signed(t, key, &x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: names})
}

// signed completes a certificate and signs it with its own key.
func signed(t *testing.T, key crypto.Signer, c *x509.Certificate) keyPair {
	t.Helper()
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().Add(time.Hour)
	}
	c.NotBefore = c.NotAfter.Add(-24 * time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return keyPair{
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}),
	}
}

func (f files) write(p keyPair) {
	f.t.Helper()
	replace(f.t, f.cert, p.cert)
	replace(f.t, f.key, p.key)
}

// replace replaces a file by renaming a new one, as careful tools do, so the inode
// differs whatever the granularity of timestamps is.
func replace(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// logBuffer records the log.
type logBuffer struct{ bytes.Buffer }

// take returns the text logged since the last call.
func (l *logBuffer) take() string {
	defer l.Reset()
	return l.String()
}

// harness is a store with its clock and log.
type harness struct {
	*testing.T
	store *Store
	clock *owner.ManualClock
	log   logBuffer
}

func newHarness(t *testing.T, files ...files) *harness {
	t.Helper()
	h := &harness{T: t, clock: owner.NewManualClock()}
	var certs, keys []string
	for _, f := range files {
		certs, keys = append(certs, f.cert), append(keys, f.key)
	}
	var err error
	if h.store, err = New(Options{Certs: certs, Keys: keys, Log: slog.New(slog.NewTextHandler(&h.log, nil)), Clock: h.clock}); err != nil {
		t.Fatal(err)
	}
	return h
}

// serial returns the serial number of the certificate for the server name.
func (h *harness) serial(name string) int64 {
	h.Helper()
	c, err := h.store.GetCertificate(&tls.ClientHelloInfo{ServerName: name})
	if err != nil {
		h.Fatal(err)
	}
	return c.Leaf.SerialNumber.Int64()
}

func TestCertificateByName(t *testing.T) {
	first := newFiles(t, "first.example")
	second := newFiles(t)
	second.write(newKeyPair(t, 2, "Second.Example", "www.second.example", "third.example"))
	wild := newFiles(t)
	wild.write(newKeyPair(t, 3, "*.second.example", "third.example"))
	old := newFiles(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	old.write(signed(t, key, &x509.Certificate{SerialNumber: big.NewInt(4), Subject: pkix.Name{CommonName: "old.example"}}))

	h := newHarness(t, first, second, wild, old)
	for name, want := range map[string]int64{
		"":                     1,
		"first.example":        1,
		"unknown.example":      1,
		"second.example":       2,
		"SECOND.example":       2,
		"second.example.":      2,
		"www.second.example":   2, // exact before wildcard
		"api.second.example":   3,
		"API.second.example":   3,
		"a.api.second.example": 1, // a wildcard is one label
		"third.example":        2, // the first of two
		"old.example":          4,
		"example":              1,
		"*.second.example":     3,
	} {
		if got := h.serial(name); got != want {
			t.Errorf("%q: certificate %d, want %d", name, got, want)
		}
	}
	log := h.log.take()
	if strings.Count(log, "level=INFO msg=certificate file=") != 4 || !strings.Contains(log, `names="second.example www.second.example third.example"`) {
		t.Errorf("log:\n%s", log)
	}
}

// Of two certificates for one name, each client gets one whose key it supports.
func TestCertificateByKey(t *testing.T) {
	old := newFiles(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	old.write(signed(t, key, &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{"a.example"}}))
	h := newHarness(t, newFiles(t, "a.example"), old)
	for suite, want := range map[uint16]int64{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256: 1,
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256:   2,
	} {
		state := h.handshake(h.store.Config(), &tls.Config{ServerName: "a.example", MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite}})
		if got := state.PeerCertificates[0].SerialNumber.Int64(); got != want {
			t.Errorf("%s: certificate %d, want %d", tls.CipherSuiteName(suite), got, want)
		}
	}
}

// handshake runs a handshake between a client and a server with these
// configurations, and exchanges a byte each way, so that the client has its ticket.
func (h *harness) handshake(server, client *tls.Config) tls.ConnectionState {
	h.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		raw, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		c := tls.Server(raw, server)
		defer c.Close()
		if _, err = c.Read(make([]byte, 1)); err == nil {
			_, err = c.Write([]byte("b"))
		}
		done <- err
	}()
	client = client.Clone() // with the ticket cache
	client.InsecureSkipVerify = true
	c, err := tls.Dial("tcp", l.Addr().String(), client)
	if err != nil {
		h.Fatalf("client: %v; server: %v", err, <-done)
	}
	defer c.Close()
	if _, err := c.Write([]byte("a")); err != nil {
		h.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); n != 1 { // io.EOF may be returned with it
		h.Fatal(err)
	}
	if err := <-done; err != nil {
		h.Fatal(err)
	}
	return c.ConnectionState()
}

func TestTLSConfig(t *testing.T) {
	h := newHarness(t, newFiles(t, "a.example"))
	server := h.store.Config("h2", "http/1.1")
	for _, tt := range []struct {
		version  uint16
		protos   []string
		protocol string
	}{
		{tls.VersionTLS13, []string{"h2", "http/1.1"}, "h2"},
		{tls.VersionTLS13, []string{"http/1.1", "h2"}, "h2"}, // the server's order
		{tls.VersionTLS12, []string{"http/1.1"}, "http/1.1"},
		{tls.VersionTLS12, nil, ""},
	} {
		client := &tls.Config{MinVersion: tt.version, MaxVersion: tt.version, NextProtos: tt.protos, ServerName: "a.example", ClientSessionCache: tls.NewLRUClientSessionCache(1)}
		first, second := h.handshake(server, client), h.handshake(server, client)
		if first.Version != tt.version || first.NegotiatedProtocol != tt.protocol {
			t.Errorf("version %x, protocol %q; want %x, %q", first.Version, first.NegotiatedProtocol, tt.version, tt.protocol)
		}
		if first.DidResume || !second.DidResume {
			t.Errorf("%s: resumed %v, then %v", tls.VersionName(tt.version), first.DidResume, second.DidResume)
		}
	}

	client, peer := net.Pipe()
	defer client.Close()
	refused := make(chan error, 1)
	go func() {
		refused <- tls.Server(peer, server).Handshake()
		peer.Close()
	}()
	if err := tls.Client(client, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS11, MaxVersion: tls.VersionTLS11}).Handshake(); err == nil {
		t.Error("TLS 1.1 was accepted")
	}
	if err := <-refused; err == nil {
		t.Error("the server accepted TLS 1.1")
	}
}

func TestCertificateReload(t *testing.T) {
	a, b := newFiles(t, "a.example"), newFiles(t)
	b.write(newKeyPair(t, 2, "b.example"))
	h := newHarness(t, a, b)
	h.log.take()

	b.write(newKeyPair(t, 3, "b.example", "c.example"))
	if got := h.serial("b.example"); got != 2 {
		t.Errorf("certificate %d within the second, want 2: files are checked once a second", got)
	}
	h.clock.Advance(recheckEvery)
	if got := h.serial("b.example"); got != 3 {
		t.Errorf("certificate %d after the second, want the new one", got)
	}
	if got := h.serial("c.example"); got != 3 {
		t.Errorf("certificate %d for the new name", got)
	}
	if got := h.serial("a.example"); got != 1 {
		t.Errorf("certificate %d for the pair that did not change", got)
	}
	if log := h.log.take(); strings.Count(log, "msg=") != 1 || !strings.Contains(log, "certificate reloaded") || !strings.Contains(log, b.cert) {
		t.Errorf("log:\n%s", log)
	}
	h.clock.Advance(recheckEvery)
	h.serial("a.example")
	if log := h.log.take(); log != "" {
		t.Errorf("logged although nothing has changed:\n%s", log)
	}
}

// A file that is rewritten in place keeps its inode; a tool that copies times
// with the content (cp -p, rsync) leaves size and time of modification, too.
func TestReloadOfAFileRewrittenInPlace(t *testing.T) {
	f := newFiles(t)
	old, next := sameSize(t)
	f.write(old)
	h := newHarness(t, f)
	for i, p := range []keyPair{next, old, next} {
		want := int64(2 - i%2)
		for path, text := range map[string][]byte{f.cert: p.cert, f.key: p.key} {
			before, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(path, before.ModTime(), before.ModTime()); err != nil {
				t.Fatal(err)
			}
			after, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if !os.SameFile(before, after) || before.Size() != after.Size() || !before.ModTime().Equal(after.ModTime()) {
				t.Fatal("the rewritten file differs in more than its content")
			}
		}
		h.clock.Advance(recheckEvery)
		if got := h.serial(""); got != want {
			t.Errorf("rewrite %d: certificate %d, want %d", i, got, want)
		}
	}
}

// sameSize returns pairs with the serial numbers 1 and 2 whose files are equally
// long.
func sameSize(t *testing.T) (keyPair, keyPair) {
	t.Helper()
	a := newKeyPair(t, 1, "a.example")
	for {
		// The length of a signature varies by a byte.
		b := newKeyPair(t, 2, "a.example")
		if len(a.cert) == len(b.cert) && len(a.key) == len(b.key) {
			return a, b
		}
	}
}

func TestStamp(t *testing.T) {
	now := time.Unix(1000, 0)
	at := func(age time.Duration) stamp { return stamp{inode: 1, changed: now.Add(-age).UnixNano()} }
	for name, tt := range map[string]struct {
		stamp stamp
		want  bool
	}{
		"no file":            {stamp{}, false},
		"changed long ago":   {at(time.Minute), true},
		"changed just now":   {at(time.Second), false},
		"changed in future":  {at(-time.Hour), false},
		"changed right then": {at(settleTime), false},
	} {
		if got := tt.stamp.settled(now); got != tt.want {
			t.Errorf("%s: settled %v", name, got)
		}
	}
	path := filepath.Join(t.TempDir(), "f")
	if stampOf(path) != (stamp{}) {
		t.Error("a file that is missing has a stamp")
	}
	replace(t, path, []byte("x"))
	before := stampOf(path)
	replace(t, path, []byte("y"))
	if stampOf(path) == before {
		t.Error("another file of the same size has the same stamp")
	}
}

// Each row is a way to break a pair. The previous certificate stays in use, the error
// is logged once, and the repaired files are loaded.
func TestBrokenReload(t *testing.T) {
	for _, tt := range []struct {
		name, logged string
		hurt         func(t *testing.T, f files)
	}{
		{"certificate before its key", "is not the key of tlsCert", func(t *testing.T, f files) { replace(t, f.cert, newKeyPair(t, 7, "a.example").cert) }},
		{"key before its certificate", "is not the key of tlsCert", func(t *testing.T, f files) { replace(t, f.key, newKeyPair(t, 7).key) }},
		{"half a certificate", "holds no certificate in PEM form", func(t *testing.T, f files) {
			replace(t, f.cert, newKeyPair(t, 7, "a.example").cert[:100])
		}},
		{"emptied", "holds no certificate in PEM form", func(t *testing.T, f files) { replace(t, f.cert, nil) }},
		{"gone", "no such file or directory: name a file that is there", func(t *testing.T, f files) {
			if err := os.Remove(f.key); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := newFiles(t, "a.example"), newFiles(t)
			b.write(newKeyPair(t, 2, "b.example"))
			h := newHarness(t, a, b)
			h.log.take()
			tt.hurt(t, a)
			b.write(newKeyPair(t, 3, "b.example"))
			for range 3 {
				h.clock.Advance(recheckEvery)
				if got := h.serial("a.example"); got != 1 {
					t.Fatalf("certificate %d, want the old one", got)
				}
			}
			if got := h.serial("b.example"); got != 3 {
				t.Errorf("certificate %d for the other pair, which is valid", got)
			}
			log := h.log.take()
			if strings.Count(log, "level=ERROR") != 1 || !strings.Contains(log, tt.logged) || !strings.Contains(log, "stays in use") {
				t.Errorf("log:\n%s", log)
			}
			a.write(newKeyPair(t, 9, "a.example"))
			h.clock.Advance(recheckEvery)
			if got := h.serial("a.example"); got != 9 {
				t.Errorf("certificate %d after the repair, want the new one", got)
			}
			if log := h.log.take(); !strings.Contains(log, "certificate reloaded") {
				t.Errorf("log:\n%s", log)
			}
			// The same error after a repair is logged again.
			tt.hurt(t, a)
			h.clock.Advance(recheckEvery)
			h.serial("a.example")
			if log := h.log.take(); strings.Count(log, "level=ERROR") != 1 {
				t.Errorf("log of the second time:\n%s", log)
			}
		})
	}
}

// A file that was broken and has its old content back is not reported again.
func TestBrokenAndBack(t *testing.T) {
	f := newFiles(t, "a.example")
	good, err := os.ReadFile(f.cert)
	if err != nil {
		t.Fatal(err)
	}
	h := newHarness(t, f)
	replace(t, f.cert, []byte("no"))
	h.clock.Advance(recheckEvery)
	h.serial("")
	replace(t, f.cert, good)
	h.clock.Advance(recheckEvery)
	h.log.take()
	if got := h.serial(""); got != 1 {
		t.Errorf("certificate %d", got)
	}
	h.clock.Advance(recheckEvery)
	h.serial("")
	if log := h.log.take(); strings.Contains(log, "ERROR") {
		t.Errorf("log:\n%s", log)
	}
}

// Handshakes in parallel with a reload get a consistent pair, old or new.
func TestReloadUnderLoad(t *testing.T) {
	f := newFiles(t, "a.example")
	h := newHarness(t, f)
	pairs := []keyPair{newKeyPair(t, 2, "a.example"), newKeyPair(t, 3, "a.example")}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				c, err := h.store.GetCertificate(&tls.ClientHelloInfo{ServerName: "a.example"})
				if err != nil || !slices.Contains([]int64{1, 2, 3}, c.Leaf.SerialNumber.Int64()) {
					t.Errorf("%v, %v", c, err)
					return
				}
			}
		})
	}
	for i := range 50 {
		f.write(pairs[i%2])
		h.clock.Advance(recheckEvery)
	}
	close(stop)
	wg.Wait()
	h.clock.Advance(recheckEvery)
	if got := h.serial("a.example"); got != 3 {
		t.Errorf("certificate %d at the end, want 3", got)
	}
}

// mistaken returns the error of New for lists of files separated by semicolons.
func mistaken(certs, keys string) (*Store, error) {
	return New(Options{Certs: strings.Split(certs, ";"), Keys: strings.Split(keys, ";"), Log: slog.Default(), Clock: owner.NewManualClock()})
}

// Each row is a mistake in the settings, and the advice that the error must contain.
func TestCertificateMistakes(t *testing.T) {
	good, other := newFiles(t, "a.example"), newFiles(t, "b.example")
	write := func(block *pem.Block) string {
		path := filepath.Join(t.TempDir(), "file.pem")
		replace(t, path, pem.EncodeToMemory(block))
		return path
	}
	locked := write(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")})
	lockedOld := write(&pem.Block{Type: "RSA PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED"}, Bytes: []byte("x")})
	parameters := write(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte("x")})
	torn := write(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})
	missing := filepath.Join(t.TempDir(), "none.pem")
	folder := t.TempDir()
	for _, tt := range []struct{ cert, key, want string }{
		{missing, good.key, "tlsCert: open " + missing + ": no such file or directory: name a file that is there"},
		{good.cert, missing, "tlsKey: open " + missing},
		{folder, good.key, "is a directory"},
		{good.key, good.cert, "are tlsCert and tlsKey exchanged?"},
		{parameters, good.key, "holds no certificate in PEM form"},
		{good.cert, good.cert, "holds no private key in PEM form"},
		{good.cert, parameters, "holds no private key in PEM form"},
		{good.cert, locked, "openssl pkey -in " + locked},
		{good.cert, lockedOld, "is protected by a password"},
		{good.cert, other.key, "is not the key of tlsCert"},
		{good.cert + ";" + other.cert, other.key + ";" + good.key, "list keys in the order of their certificates"},
		{torn, good.key, "tlsCert " + torn + " with tlsKey " + good.key},
	} {
		_, err := mistaken(tt.cert, tt.key)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s, %s: error %v, want one with %q", tt.cert, tt.key, err, tt.want)
		}
	}
	// One error reports all mistakes.
	if _, err := mistaken(missing+";"+torn, good.key+";"+locked); err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("error %v, want a line for each pair", err)
	}
}

func TestExpiredCertificateIsNamed(t *testing.T) {
	f := newFiles(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	f.write(signed(t, key, &x509.Certificate{SerialNumber: big.NewInt(5), DNSNames: []string{"a.example"}, NotAfter: time.Unix(1e9, 0)}))
	h := newHarness(t, f)
	if log := h.log.take(); !strings.Contains(log, "level=WARN") || !strings.Contains(log, "has expired") || !strings.Contains(log, "expires=2001-09-09") {
		t.Errorf("log:\n%s", log)
	}
}

// Choosing a certificate does not allocate while no check of the files is due.
func TestCertificateChoiceAllocs(t *testing.T) {
	h := newHarness(t, newFiles(t, "a.example"))
	hello := &tls.ClientHelloInfo{ServerName: "a.example"}
	if a := testing.AllocsPerRun(100, func() { _, _ = h.store.GetCertificate(hello) }); a != 0 {
		t.Errorf("%v allocations", a)
	}
}
