package gateway

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
)

// The log names the host as it was configured, and the port in use.
func TestListeningLogsWhatWasConfigured(t *testing.T) {
	for addr, host := range map[string]string{"": "0.0.0.0", "127.0.0.1": "127.0.0.1", AllAddresses: ""} {
		var log syncBuffer
		g, err := New(Config{Addr: addr, Port: FreePort, EmbeddedNATS: true, EmbeddedNATSListen: "127.0.0.1:0", DrainTimeout: Off,
			Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
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
		if text, want := log.take(), "msg=listening addr="+net.JoinHostPort(host, port)+" "; !strings.Contains(text, want) {
			t.Errorf("%q: no %q in\n%s", addr, want, text)
		}
		if err := g.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}
}
