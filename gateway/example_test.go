package gateway_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/gateway"
)

// A program of one's own runs a gateway with its own NATS server, and serves a resource on it.
// Clients read the resource over HTTP, or subscribe to it over WebSocket on the same port.
func Example() {
	g, err := gateway.New(gateway.Config{
		Addr:               "127.0.0.1",
		Port:               gateway.FreePort,
		EmbeddedNATS:       true,
		EmbeddedNATSListen: "127.0.0.1:0",
		Log:                slog.New(slog.DiscardHandler),
	})
	if err != nil {
		fmt.Println("wrong settings:", err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := g.Start(ctx); err != nil {
		fmt.Println("cannot start:", err)
		return
	}
	// Stop waits for clients until its context ends. A program that runs for long also receives
	// from Done, which yields the error of a part that fails.
	defer func() {
		if err := g.Stop(ctx); err != nil {
			fmt.Println("stopping:", err)
		}
		fmt.Println("stopped")
	}()

	// The service: everyone may get the model "greeting".
	nc, err := nats.Connect(g.NATSURL().Reveal())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer nc.Close()
	replies := map[string]string{
		"access.greeting": `{"result":{"get":true}}`,
		"get.greeting":    `{"result":{"model":{"text":"hello"}}}`,
	}
	for subject, reply := range replies {
		if _, err := nc.Subscribe(subject, func(m *nats.Msg) { _ = m.Respond([]byte(reply)) }); err != nil {
			fmt.Println(err)
			return
		}
	}
	if err := nc.Flush(); err != nil { // the subscriptions are in place
		fmt.Println(err)
		return
	}

	resp, err := http.Get("http://" + g.Addr().String() + "/api/greeting")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	fmt.Println(resp.StatusCode, string(body), err)
	// Output:
	// 200 {"text":"hello"} <nil>
	// stopped
}
