package selfsigned

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
)

// A peer that trusts the certificate verifies it for each of its names, on both sides of a
// connection; one that trusts another does not.
func TestVerifies(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	p, err := New("localhost", "127.0.0.1", "::1")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Write(certFile, keyFile); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(keyFile); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v, %v", info, err)
	}
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	other, err := New("localhost")
	if err != nil {
		t.Fatal(err)
	}
	trusted, strange := x509.NewCertPool(), x509.NewCertPool()
	trusted.AppendCertsFromPEM(p.Cert)
	strange.AppendCertsFromPEM(other.Cert)
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		for _, name := range []string{"localhost", "127.0.0.1", "::1"} {
			o := x509.VerifyOptions{Roots: trusted, DNSName: name, KeyUsages: []x509.ExtKeyUsage{usage}}
			if _, err := cert.Leaf.Verify(o); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			o.Roots = strange
			if _, err := cert.Leaf.Verify(o); err == nil {
				t.Errorf("%s: verified by another authority", name)
			}
		}
	}
}

func TestNeedsAName(t *testing.T) {
	if _, err := New(); err == nil {
		t.Error("a certificate for no name")
	}
}
