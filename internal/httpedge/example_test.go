package httpedge_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"sluice/internal/httpapi"
	"sluice/internal/httpedge"
)

// An edge is made, started, given connections, and stopped. In a gateway the connections come from
// event loops, and most requests are answered there: each loop calls NewLoop in its start, and
// forwards the requests of its connections to the result. Here a listener stands in for the loops,
// so that net/http answers all requests, which for resources takes a loop.
func Example() {
	e := httpedge.New(httpedge.Options{
		API:         httpapi.Options{APIPath: "/api"},
		WSPath:      "/",
		MaxHead:     64 << 10,
		HeadTimeout: 10 * time.Second,
		Exchange:    30 * time.Second,
		IdleTimeout: 30 * time.Second,
		Gateway: httpedge.Gateway{
			Healthy:  func() bool { return true },
			Draining: func() bool { return false },
			Ready:    func() error { return nil },
			Closed:   func() bool { return false },
			Adopt:    func(c net.Conn, head []byte) { _ = c.Close() }, // no loop to return an upgrade to
		},
		Log: slog.New(slog.DiscardHandler),
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	e.Start(l.Addr(), func(err error) { fmt.Println("the server failed:", err) })
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			e.Handover(c)
		}
	}()
	for _, path := range []string{"/healthz", "/nowhere"} {
		resp, err := http.Get("http://" + l.Addr().String() + path)
		if err != nil {
			fmt.Println(err)
			return
		}
		body, err := io.ReadAll(resp.Body)
		fmt.Println(resp.StatusCode, string(body), err)
		_ = resp.Body.Close()
	}
	_ = l.Close()
	fmt.Println("stopped:", e.Stop(context.Background()))
	// Output:
	// 200 {"status":"ok","nats":"connected"} <nil>
	// 404 {"code":"system.notFound","message":"Not found"} <nil>
	// stopped: <nil>
}
