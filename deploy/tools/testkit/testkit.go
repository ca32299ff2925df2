// Package testkit has what the tests of packages, charts and proxies share. It never knows what
// they test.
package testkit

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"testing"
)

// Note tells how a test ran where machines differ: which way it took, or what it left out. Go shows
// the logs of passing tests only on request, so it is also appended to the file that the
// environment variable NOTES names, which "make packages" prints in the end.
func Note(t *testing.T, format string, args ...any) {
	t.Helper()
	t.Logf(format, args...)
	name := os.Getenv("NOTES")
	if name == "" {
		return
	}
	file, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	// One write: tests of several packages run at the same time.
	_, err = fmt.Fprintf(file, "%s: %s\n", t.Name(), fmt.Sprintf(format, args...))
	if err := file.Close(); err != nil {
		t.Error(err)
	}
	if err != nil {
		t.Error(err)
	}
}

// Installed reports whether the programs that a test needs are there, and notes which is not.
// "make deps" installs them on Debian; elsewhere the test is left out.
func Installed(t *testing.T, programs ...string) bool {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			Note(t, "left out: %s is not installed", p)
			return false
		}
	}
	return true
}

// FreePort returns a port of the loopback interface that nothing listens on. Another program may
// take it before the caller does: then try again.
func FreePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}
