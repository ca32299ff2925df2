package restest

import (
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"sluice/internal/natstest"
)

// startNATS runs a real nats-server on a loopback port for the time of the test.
func startNATS(t testing.TB) *server.Server {
	t.Helper()
	return natstest.Start(t).Server()
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
