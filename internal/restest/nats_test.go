package restest

import (
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// startNATS runs a real nats-server on a loopback port for the time of the test.
func startNATS(t testing.TB) *server.Server {
	t.Helper()
	ns, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	if !ns.ReadyForConnections(10 * time.Second) {
		t.Fatal("nats-server is not ready")
	}
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	return ns
}

// subscribed reports whether the server has a subscription on exactly that subject.
func subscribed(ns *server.Server) func(string) bool {
	return func(subject string) bool {
		z, err := ns.Subsz(&server.SubszOptions{Subscriptions: true, Limit: 1 << 20})
		if err != nil {
			return false
		}
		for _, sub := range z.Subs {
			if sub.Subject == subject {
				return true
			}
		}
		return false
	}
}
