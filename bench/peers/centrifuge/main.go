// Command centrifuge is a server on the centrifuge library, the engine of
// Centrifugo, for the comparison: its memory engine, anonymous clients, all
// channels open, settings at the defaults that its documentation advises for
// production. It reads events from lines of a channel's number, a space and JSON,
// so that the cost of a broker does not count.
//
// It owns its node and two listening sockets on the loopback. It never keeps
// history or presence, and has no use but the comparison.
package main

import (
	"bufio"
	"bytes"
	"compress/flate"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/centrifugal/centrifuge"
)

func main() {
	port := flag.String("port", "8000", "port for clients")
	feed := flag.String("feed", "8001", "port for events")
	delay := flag.Duration("write-delay", 0, "time to collect messages before a write (the library's WriteDelay)")
	compress := flag.Bool("compression", false, "compress messages")
	cert := flag.String("tlscert", "", "certificate file; empty: no TLS")
	key := flag.String("tlskey", "", "the certificate's key file")
	flag.Parse()
	if err := run(*port, *feed, *cert, *key, *delay, *compress); err != nil {
		slog.Error("stopped", "error", err)
		os.Exit(1)
	}
}

// run serves clients and the feed until a signal.
func run(port, feed, cert, key string, delay time.Duration, compress bool) error {
	node, err := centrifuge.New(centrifuge.Config{LogLevel: centrifuge.LogLevelError, LogHandler: func(e centrifuge.LogEntry) { slog.Error(e.Message, "fields", e.Fields) }})
	if err != nil {
		return err
	}
	node.OnConnecting(func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		return centrifuge.ConnectReply{Credentials: &centrifuge.Credentials{UserID: ""}, WriteDelay: delay}, nil
	})
	node.OnConnect(func(client *centrifuge.Client) {
		client.OnSubscribe(func(_ centrifuge.SubscribeEvent, cb centrifuge.SubscribeCallback) {
			cb(centrifuge.SubscribeReply{}, nil)
		})
		client.OnRPC(func(e centrifuge.RPCEvent, cb centrifuge.RPCCallback) {
			cb(centrifuge.RPCReply{Data: e.Data}, nil)
		})
	})
	if err := node.Run(); err != nil {
		return err
	}

	feeds, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", feed))
	if err != nil {
		return err
	}
	go accept(node, feeds)

	mux := http.NewServeMux()
	mux.Handle("/connection/websocket", centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{
		CheckOrigin:        func(*http.Request) bool { return true },
		Compression:        compress,
		CompressionLevel:   flate.BestSpeed, // 0, the default, would not compress
		CompressionMinSize: 1,
		// A message to many clients is compressed once.
		CompressionPreparedMessageCacheSize: 1 << 20,
		UseWriteBufferPool:                  true,
	}))
	server := &http.Server{Addr: net.JoinHostPort("127.0.0.1", port), Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() {
		if cert != "" {
			ended <- server.ListenAndServeTLS(cert, key)
		} else {
			ended <- server.ListenAndServe()
		}
	}()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	select {
	case err = <-ended:
	case <-stop:
		err = server.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return errors.Join(err, feeds.Close(), node.Shutdown(ctx))
}

// accept serves the feed's connections until the listener closes.
func accept(node *centrifuge.Node, l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			if err := publish(node, c); err != nil {
				slog.Error("feed ended", "error", err)
			}
		}()
	}
}

// publish publishes the events of a feed connection until it ends.
func publish(node *centrifuge.Node, c net.Conn) error {
	lines := bufio.NewScanner(c)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		number, payload, ok := bytes.Cut(lines.Bytes(), []byte{' '})
		if !ok {
			return fmt.Errorf("malformed line %q", lines.Bytes())
		}
		// The library keeps the payload until it is written to all clients.
		if _, err := node.Publish("load.t"+string(number), bytes.Clone(payload)); err != nil {
			return err
		}
	}
	return lines.Err()
}
