//go:build linux

package run

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"sluice/internal/selfsigned"
	"sluice/loadtest/client"
	"sluice/loadtest/floor"
	"sluice/loadtest/service"
)

// Clients over TLS, against the standard library's server: a proxy in front of a floor.
func TestClientsOverTLS(t *testing.T) {
	pair, err := selfsigned.New("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	s, err := floor.Listen(floor.Options{})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.Serve() }()
	defer func() { _ = s.Close() }()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", s.Addr)
			if err != nil {
				_ = in.Close()
				continue
			}
			go func() { _, _ = io.Copy(out, in); _ = out.Close() }()
			go func() { _, _ = io.Copy(in, out); _ = in.Close() }()
		}
	}()

	const clients, events = 12, 30
	e, err := client.New(client.Config{Protocol: client.ProtocolFloor, Addr: l.Addr().String(), TLS: true, Count: clients, Topics: 1, PerClient: 1, Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if err := e.Connect(); err != nil {
		t.Fatal(err)
	}
	until := func(ok func(client.Counters) bool) client.Counters {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		for {
			got, err := e.Sample(true)
			if err != nil {
				t.Fatal(err)
			}
			if ok(got.Count) {
				return got.Count
			}
			if err := pause(ctx, time.Millisecond); err != nil {
				t.Fatalf("%+v", got.Count)
			}
		}
	}
	until(func(c client.Counters) bool { return c.Ready == clients })
	if err := e.Begin(client.Now()); err != nil {
		t.Fatal(err)
	}
	feed, err := service.DialFeed(s.FeedAddr)
	if err != nil {
		t.Fatal(err)
	}
	defer feed.Close()
	for i := range events { // the largest spans several TLS records
		if err := feed.Publish(0, client.AppendEvent(nil, client.Now(), 100+i*1500)); err != nil {
			t.Fatal(err)
		}
	}
	if err := feed.Flush(); err != nil {
		t.Fatal(err)
	}
	c := until(func(c client.Counters) bool { return c.Deliveries >= clients*events })
	if c.Fewest != events || c.Most != events || c.Disorder+c.Strange+c.Stale != 0 || c.Ready != clients {
		t.Errorf("%+v", c)
	}
}
