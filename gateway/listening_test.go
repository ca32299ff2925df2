package gateway

import (
	"context"
	"net"
	"strings"
	"testing"

	"sluice/internal/testkit"
)

// The log names the host as it was configured, and the port in use.
func TestListeningLogsWhatWasConfigured(t *testing.T) {
	for addr, host := range map[string]string{"": "0.0.0.0", "127.0.0.1": "127.0.0.1", AllAddresses: ""} {
		var log testkit.Log
		g := create(t, func(c *Config) { c.Addr, c.Log = addr, log.Logger() })
		if err := g.Start(context.Background()); err != nil {
			t.Fatal(err)
		}
		system, port, err := net.SplitHostPort(g.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if host == "" { // the system has a name for it
			host = system
		}
		if text, want := log.Take(), "msg=listening addr="+net.JoinHostPort(host, port)+" "; !strings.Contains(text, want) {
			t.Errorf("%q: no %q in\n%s", addr, want, text)
		}
		if err := g.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}
}
