//go:build linux

package loadtest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"sluice/loadtest/judge"
	"sluice/loadtest/plan"
	"sluice/loadtest/report"
	"sluice/loadtest/result"
	"sluice/loadtest/run"
)

// A load test of a server that runs already: plan, run, judge, report. The server is
// NATS with its WebSocket port. For a gateway the protocol is "res".
func Example() {
	ns, err := startNATS()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ns.Shutdown()

	// What to run: 20 clients receive 200 events per second for 100 ms. A target without
	// Start runs already, and without PID its CPU and memory are not measured.
	p := plan.Plan{
		Title: "An example",
		Targets: []plan.Target{
			{Name: "nats", Protocol: "nats", Addr: ns.WebsocketURL()[len("ws://"):], NATSURL: ns.ClientURL()},
		},
		Scenarios: []plan.Scenario{
			{Name: "events", Kind: plan.KindFanout, N: 20, Rate: 200, Duration: 100 * time.Millisecond},
		},
	}

	// Run it. Without Options.Worker the clients live in this process.
	rep, err := run.Run(context.Background(), p, run.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}

	// Read the figures: medians over the rounds, and whether each is the server's.
	for _, c := range judge.Medians(rep) {
		fmt.Printf("%s, %s: %d of %d deliveries\n", c.Target, c.Scenario, c.Units, c.Expected)
		fmt.Println("server's CPU known:", c.OK(result.CPU))
	}

	// Render the report.
	if err := report.HTML(io.Discard, rep); err != nil {
		fmt.Println(err)
	}

	// Output:
	// nats, events: 400 of 400 deliveries
	// server's CPU known: false
}

// startNATS starts a NATS server with a WebSocket port on the loopback.
func startNATS() (*server.Server, error) {
	ns, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true,
		Websocket: server.WebsocketOpts{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoTLS: true},
	})
	if err != nil {
		return nil, err
	}
	ns.Start()
	if !ns.ReadyForConnections(10 * time.Second) {
		ns.Shutdown()
		return nil, errors.New("the NATS server did not start")
	}
	return ns, nil
}
