// Command testservice is the service of the end-to-end tests. It is written with go-res and has
// every kind of resource, event and reply of RES.
//
// It owns its data, in memory, and can run the NATS server that it and the gateway connect to. It
// never communicates with the gateway other than by RES, and is for tests only.
//
// It prints "ready <NATS URL>" when it serves, and exits at the end of its standard input, so it
// never outlives a test.
//
// "testservice certificate <certificate file> <key file>" writes a certificate for TLS on loopback,
// and exits.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/jirenius/go-res"
	"github.com/jirenius/go-res/logger"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"sluice/internal/selfsigned"
)

func main() {
	url := flag.String("nats", "", "NATS server to join; empty: run one on a free loopback port")
	trace := flag.Bool("trace", false, "log every message to standard error")
	flag.Parse()
	err := func() error {
		if args := flag.Args(); len(args) == 3 && args[0] == "certificate" {
			return writeCertificate(args[1], args[2])
		} else if len(args) > 0 {
			return fmt.Errorf("%q is not understood", args)
		}
		return run(*url, *trace)
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, "testservice:", err)
		os.Exit(1)
	}
}

// writeCertificate writes a certificate for loopback and its key to two PEM files.
func writeCertificate(certFile, keyFile string) error {
	pair, err := selfsigned.New("localhost", "127.0.0.1", "::1")
	if err != nil {
		return err
	}
	return pair.Write(certFile, keyFile)
}

func run(url string, trace bool) error {
	if url == "" {
		srv, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true})
		if err != nil {
			return err
		}
		srv.Start()
		if !srv.ReadyForConnections(10 * time.Second) {
			return fmt.Errorf("the NATS server did not start")
		}
		defer srv.Shutdown()
		url = srv.ClientURL()
	}
	nc, err := nats.Connect(url, nats.Name("testservice"), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond),
		nats.RetryOnFailedConnect(false))
	if err != nil {
		return err
	}
	svc := res.NewService(serviceName)
	svc.SetLogger(logger.NewStdLogger().SetInfo(false).SetTrace(trace))
	newLibrary(svc)
	svc.SetOnServe(func(*res.Service) {
		// The server has the subscriptions once it has responded to a later ping.
		if err := nc.Flush(); err != nil {
			fmt.Fprintln(os.Stderr, "testservice:", err)
			os.Exit(1)
		}
		fmt.Println("ready", url)
	})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0) // the test has ended
	}()
	return svc.Serve(nc)
}
