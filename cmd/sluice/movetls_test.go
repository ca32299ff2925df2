//go:build linux

package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	_ "unsafe" // for linkname

	"sluice/internal/restest"
	"sluice/internal/selfsigned"
	"sluice/internal/testkit"
)

// The suites that crypto/tls offers. Its API cannot choose among those of TLS 1.3.
//
//go:linkname offeredSuites crypto/tls.defaultCipherSuitesTLS13
var offeredSuites []uint16

//go:linkname offeredWithoutAES crypto/tls.defaultCipherSuitesTLS13NoAES
var offeredWithoutAES []uint16

// secureWorld is a world whose clients use TLS. suite is that of those that connect next; 0: any.
func secureWorld(t *testing.T, version uint16, environ ...string) (w *world, suite *uint16) {
	t.Helper()
	with, without := offeredSuites, offeredWithoutAES
	t.Cleanup(func() { offeredSuites, offeredWithoutAES = with, without })
	settings, roots := secureSettings(t)
	suite = new(uint16)
	w = newWorld(t, "loops: 2\n"+settings, environ...)
	w.secure = &tls.Config{RootCAs: roots}
	w.dial = func(name string, arrived func()) (*restest.Client, error) {
		offeredSuites, offeredWithoutAES = with, without
		if *suite != 0 {
			offeredSuites, offeredWithoutAES = []uint16{*suite}, []uint16{*suite}
		}
		config := &tls.Config{RootCAs: roots, MaxVersion: version, VerifyConnection: func(s tls.ConnectionState) error {
			if s.Version != version || *suite != 0 && s.CipherSuite != *suite {
				return fmt.Errorf("got %s with %s", tls.VersionName(s.Version), tls.CipherSuiteName(s.CipherSuite))
			}
			return nil
		}}
		return restest.DialTLS(name, "wss://"+w.l.addr+"/", config, arrived)
	}
	return w, suite
}

// secureSettings are settings with TLS, and what its clients trust.
func secureSettings(t *testing.T) (settings string, roots *x509.CertPool) {
	t.Helper()
	pair, err := selfsigned.New("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := pair.Write(cert, key); err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM(pair.Cert)
	return fmt.Sprintf("tls: true\ntlsCert: %s\ntlsKey: %s\n", cert, key), roots
}

// While everything changes, WebSocket clients with TLS go over to new processes with their keys,
// whatever the cipher suite. Each process goes on where the one before has ended.
func TestWebSocketsWithTLSMove(t *testing.T) {
	w, suite := secureWorld(t, tls.VersionTLS13)
	w.begin()
	all := rids()
	suites := []uint16{tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384, tls.TLS_CHACHA20_POLY1305_SHA256}
	for i := range 18 {
		*suite = suites[i%len(suites)]
		w.client(all[i%len(all)], all[(i*5+3)%len(all)])
	}
	asked := w.asked()
	for round := range 3 {
		if out := w.upgrade(round + 1); !strings.Contains(out, "18 WebSockets have moved") {
			t.Errorf("round %d: %s", round, out)
		}
		for _, f := range w.clients { // both directions
			f.ask(t, "call."+f.rids[0]+".set", "")
		}
		for _, f := range w.clients {
			w.until(f, "the call is answered", func() bool { return f.view.Pending() == 0 })
		}
	}
	w.rest()
	if n := w.asked(); n != asked {
		t.Errorf("%d access requests after an upgrade", n-asked)
	}
}

// Keys of older versions of TLS stay in the old process: clients leave in the drain, and nobody
// waits for them before.
func TestWebSocketsWithOldTLSLeave(t *testing.T) {
	w, _ := secureWorld(t, tls.VersionTLS12)
	f := w.client("test.m0")
	if out := w.upgrade(1); !strings.Contains(out, "0 WebSockets have moved") {
		t.Error(out)
	}
	w.leaves(f)
}

// If the new settings have no TLS, clients with TLS leave in the drain.
func TestWebSocketsLeaveForPlaintext(t *testing.T) {
	w, _ := secureWorld(t, tls.VersionTLS13)
	f := w.client("test.m0")
	w.l.write(fmt.Sprintf("natsUrl: %s\naddr: 127.0.0.1\nport: -1\nmetricsPort: -1\nadminPort: -1\nupgradeSocket: %s\ndrainTimeout: 100ms\n", w.l.nats, w.l.socket))
	if out := w.upgrade(1); !strings.Contains(out, `takes no connections of the kind "tls1.3"`) || !strings.Contains(out, "0 WebSockets have moved") {
		t.Error(out)
	}
	w.leaves(f)
}

// leaves waits until a client is closed as in a drain.
func (w *world) leaves(f *follower) {
	w.t.Helper()
	testkit.Until(w.t, "client "+f.Name+" is closed", func() bool {
		_, closed := f.Closed()
		return closed
	})
	if code, _ := f.Closed(); code != 1001 {
		w.t.Errorf("client %s is closed with %d", f.Name, code)
	}
}
