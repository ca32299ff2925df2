//go:build linux

package soak

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"sluice/internal/selfsigned"
	"sluice/loadtest/proc"
)

// The gateways: one port serves either plain connections or TLS, so there is one of each. The plain
// one has most clients, and lives from the checkpoint to the end, so its memory shows what grows.
const (
	plain    = 0
	secured  = 1
	gateways = 2
)

var gatewayNames = [gateways]string{"plain", "tls"}

// Settings of the gateways that faults depend on.
const (
	natsPing  = time.Second
	natsGrace = 4 * time.Second // cuts are shorter or longer than that
)

// gateway is a gateway's process. Faults use it from one goroutine at a time; clients dial, and the
// sampler scrapes, from any.
type gateway struct {
	*server
	index   int
	dir     string       // of its configuration and certificate
	metrics string       // host:port
	life    atomic.Int64 // starts
	changes int          // of the configuration
	nats    string
	scraper http.Client
}

// newGateway prepares a gateway that reaches NATS at the URLs.
func newGateway(dir, program, nats string, index int) (*gateway, error) {
	port, err := proc.StablePort()
	if err != nil {
		return nil, err
	}
	metrics, err := proc.StablePort()
	if err != nil {
		return nil, err
	}
	g := &gateway{index: index, dir: filepath.Join(dir, gatewayNames[index]), nats: nats, metrics: local(metrics),
		scraper: http.Client{Timeout: 5 * time.Second}}
	if err := os.MkdirAll(g.dir, 0o755); err != nil {
		return nil, err
	}
	file := filepath.Join(g.dir, "config.json")
	if g.server, err = newServer(dir, "gateway-"+gatewayNames[index], program+" --config "+file, local(port)); err != nil {
		return nil, err
	}
	if err := g.certify(); err != nil {
		return nil, err
	}
	return g, g.configure()
}

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// configure writes the configuration file. Each call changes a setting that can be reloaded.
func (g *gateway) configure() error {
	_, port, _ := net.SplitHostPort(g.addr)
	_, metrics, _ := net.SplitHostPort(g.metrics)
	number := func(s string) json.Number { return json.Number(s) }
	g.changes++
	c := map[string]any{
		"natsUrl": g.nats, "addr": "127.0.0.1", "port": number(port), "metricsPort": number(metrics), "profiles": true,
		"natsPing": natsPing.String(), "natsGrace": natsGrace.String(), "natsClusterPing": natsPing.String(), "wsCompression": true,
		"drainTimeout": "1s", "closeTimeout": "2s",
		"allowOrigin": g.origin(), "cacheEviction": fmt.Sprintf("%ds", 1+g.changes%7), "maxPending": 500 + g.changes%100, "resetThrottle": 20 * (g.changes % 3),
	}
	if g.index == secured {
		c["tls"], c["tlsCert"], c["tlsKey"] = true, filepath.Join(g.dir, "cert.pem"), filepath.Join(g.dir, "key.pem")
	}
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	file := filepath.Join(g.dir, "config.json")
	if err := os.WriteFile(file+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// origin is the allowed origin of the current configuration, which no client has.
func (g *gateway) origin() string { return fmt.Sprintf("http://change-%d.example", g.changes) }

// certify writes another certificate.
func (g *gateway) certify() error {
	pair, err := selfsigned.New("127.0.0.1")
	if err != nil {
		return err
	}
	return pair.Write(filepath.Join(g.dir, "cert.pem"), filepath.Join(g.dir, "key.pem"))
}

// start starts the gateway and waits until it serves clients.
func (g *gateway) start() error {
	g.life.Add(1)
	return g.server.start()
}

// stop ends the gateway as an operator does. It must exit with 0 by itself.
func (g *gateway) stop() error {
	if err := g.signal(syscall.SIGTERM); err != nil {
		return err
	}
	code, err := g.proc.Load().Wait(patience)
	if err == nil && code != 0 {
		err = fmt.Errorf("gateway %s exited with %d after SIGTERM", gatewayNames[g.index], code)
	}
	return err
}

// dial opens a connection of a client.
func (g *gateway) dial(ctx context.Context) (net.Conn, error) {
	d := net.Dialer{Timeout: patience}
	c, err := d.DialContext(ctx, "tcp", g.addr)
	if err != nil || g.index != secured {
		return c, err
	}
	t := tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}) // which certificate is a check of its fault
	_ = t.SetDeadline(time.Now().Add(patience))
	defer t.SetDeadline(time.Time{})
	if err := t.HandshakeContext(ctx); err != nil {
		_ = c.Close()
		return nil, err
	}
	return t, nil
}

// get requests a page of the metrics port.
func (g *gateway) get(path string) ([]byte, error) {
	r, err := g.scraper.Get("http://" + g.metrics + path)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, r.Status)
	}
	return b, err
}

// figures scrapes the metrics.
func (g *gateway) figures() (figures, error) {
	b, err := g.get("/metrics")
	if err != nil {
		return nil, err
	}
	return parseFigures(b)
}

// collect makes the gateway collect garbage.
func (g *gateway) collect() error {
	_, err := g.get("/debug/pprof/heap?gc=1")
	return err
}
