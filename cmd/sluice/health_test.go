package main

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	"sluice/internal/selfsigned"
)

// The health of a gateway is asked with its own settings, and needs nothing but the program.
func TestHealth(t *testing.T) {
	run := listening(t, "--embedded-nats", "--embedded-nats-listen", "127.0.0.1:0")
	_, port, err := net.SplitHostPort(run.addr)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := selfsigned.New("realtime.example.com")
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile := filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	if err := cert.Write(certFile, keyFile); err != nil {
		t.Fatal(err)
	}
	withTLS := []string{"--tls", "--tlscert", certFile, "--tlskey", keyFile}
	secure := listening(t, append(withTLS, "--embedded-nats", "--embedded-nats-listen", "127.0.0.1:0")...)
	_, securePort, err := net.SplitHostPort(secure.addr)
	if err != nil {
		t.Fatal(err)
	}
	hidden := listening(t, "--embedded-nats", "--embedded-nats-listen", "127.0.0.1:0", "--hide-health")
	_, hiddenPort, err := net.SplitHostPort(hidden.addr)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args, environ  []string
		code           int
		stdout, stderr string
	}{
		{[]string{"--addr", "127.0.0.1", "--port", port}, nil, 0, "200 ", ""},
		{nil, []string{"SLUICE_PORT=" + port}, 0, "200 ", ""}, // on all addresses: also on the loopback
		{append(withTLS, "--port", securePort), nil, 0, "200 ", ""},
		{append(withTLS, "--port", port), nil, 1, "", "sluice: "}, // speaks no TLS
		{[]string{"--port", hiddenPort}, nil, 1, "404 ", ""},
		{[]string{"--port", "1", "--metricsport", port, "--hide-health"}, nil, 0, "200 ", ""},
		{append(withTLS, "--metricsport", port, "--hide-health"), nil, 0, "200 ", ""}, // the metrics port has no TLS
		{[]string{"--hide-health"}, nil, 2, "", "no metricsPort"},
		{[]string{"--hide-health", "--metricsport", "-1"}, nil, 2, "", "name the port"},
		{[]string{"--port", "-1"}, nil, 2, "", "name the port"},
		{[]string{"--port", "none"}, nil, 2, "", "not a whole number"},
		{[]string{"-h"}, nil, 0, "Usage: sluice", ""},
	} {
		code, stdout, stderr := command(t, tt.environ, append([]string{"health"}, tt.args...)...)
		if code != tt.code || !strings.HasPrefix(stdout, tt.stdout) || !strings.Contains(stderr, tt.stderr) {
			t.Errorf("%q: exit code %d\n%s%s", tt.args, code, stdout, stderr)
		}
	}
}
