package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"strings"
	"testing"
	"time"
)

// TestClockJumps: new files are noticed after the monotonic interval, whatever the time of day has
// become. A certificate is expired by the time of day at which it is loaded.
func TestClockJumps(t *testing.T) {
	f := newFiles(t, "a.example")
	h := newHarness(t, f)
	h.log.take()
	serial := int64(1)
	for _, jump := range []time.Duration{6 * time.Hour, -12 * time.Hour, 6 * time.Hour} {
		h.clock.Jump(jump)
		if got := h.serial("a.example"); got != serial {
			t.Errorf("certificate %d because the clock was set by %v, want %d", got, jump, serial)
		}
		serial++
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		f.write(signed(t, key, &x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: []string{"a.example"}}))
		h.clock.Advance(recheckEvery)
		if got := h.serial("a.example"); got != serial {
			t.Errorf("certificate %d after the clock was set by %v, want %d", got, jump, serial)
		}
		if log := h.log.take(); strings.Contains(log, "expired") != (jump > 0 && serial == 2) {
			t.Errorf("after the clock was set by %v: %s", jump, log)
		}
	}
}
