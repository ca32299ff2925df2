package main

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go"

	"sluice/internal/natstest"
	"sluice/internal/testkit"
)

// TestRelayMisuse: what is wrong with a relay's settings is said, with exit code 2, or 1 if it
// takes a connection to find it.
func TestRelayMisuse(t *testing.T) {
	ns := natstest.Start(t)
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--nats", ns.URL()}, exitUsage, "a relay needs downstream"},
		{[]string{"--embedded-nats", "--downstream", ns.URL()}, exitUsage, "leave embeddedNats out"},
		{[]string{"--downstream", "nats://a b"}, exitUsage, "downstream"},
		{[]string{"--downstream", ns.URL(), "--downstream-cert", "x"}, exitUsage, "downstreamCert and downstreamKey belong together"},
		{[]string{"--nats", ns.URL(), "--downstream", ns.URL()}, exitFailure, "a loop of relays"},
	} {
		p := spawn(t, nil, append([]string{"relay"}, c.args...)...)
		if code := p.exitCode(); code != c.code || !strings.Contains(p.output.String(), c.says) {
			t.Errorf("%q: exit code %d\n%s", c.args, code, &p.output)
		}
	}
}

// TestRelayPaused: a standby takes over from a process that is stopped. When the process goes on,
// it notices that its lease is over, and edges get one answer.
func TestRelayPaused(t *testing.T) {
	home, edge := natstest.Start(t), natstest.Start(t)
	service := home.Client()
	if _, err := service.Subscribe("get.>", func(m *nats.Msg) { _ = m.Respond([]byte(`{"result":{"model":{"n":1}}}`)) }); err != nil {
		t.Fatal(err)
	}
	if err := service.Flush(); err != nil {
		t.Fatal(err)
	}
	start := func() *child {
		return spawn(t, nil, "relay", "--nats", home.URL(), "--downstream", edge.URL(), "--relay-lease", "2s", "--metricsport", "-1", "--addr", "127.0.0.1")
	}
	first := start()
	first.after("msg=\"active: edges are served\" edge=")
	standby := start()
	standby.after("msg=\"relay started\" home=")
	first.signal(syscall.SIGSTOP)
	standby.after("msg=\"active: edges are served\" edge=")
	first.signal(syscall.SIGCONT)
	first.after("msg=\"the lease is lost: this relay stops to serve")

	nc := edge.Client()
	answers := make(chan *nats.Msg, 1000)
	if _, err := nc.ChanSubscribe("answers.*", answers); err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	asked := 0
	testkit.Until(t, "a get is answered", func() bool {
		asked++
		if err := nc.PublishRequest("get.test", fmt.Sprintf("answers.%d", asked), []byte(`{}`)); err != nil {
			t.Fatal(err)
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		for len(answers) > 0 {
			m := <-answers
			got[m.Subject]++
		}
		return len(got) > 20
	})
	for subject, n := range got {
		if n > 1 {
			t.Errorf("%s got %d answers", subject, n)
		}
	}
	for _, p := range []*child{first, standby} {
		p.signal(syscall.SIGTERM)
		if code := p.exitCode(); code != exitOK {
			t.Errorf("exit code %d\n%s", code, &p.output)
		}
	}
}
