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
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"sluice/internal/selfsigned"
	"sluice/loadtest/proc"
)

// The gateways: one port serves either plain connections or TLS, so there is one of each. The plain
// one has most clients. From the checkpoint to the end it is not started again, but for upgrades,
// so its memory shows what grows.
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
	life    atomic.Int64 // starts; a process that has taken over goes on with its predecessor's
	changes int          // of the configuration
	files   sync.Mutex   // of the folder: a process that starts must not find some of them replaced
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
	g.files.Lock()
	defer g.files.Unlock()
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
	g.files.Lock()
	defer g.files.Unlock()
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

// upgrade has a new process take over, and returns when the old one has ended, with what it says of
// its clients.
func (g *gateway) upgrade(ctx context.Context) (moved string, err error) {
	old := g.proc.Load()
	info, err := g.log.Stat()
	if err != nil {
		return "", err
	}
	g.files.Lock()
	defer g.files.Unlock()
	if err := old.Signal(syscall.SIGUSR2); err != nil {
		return "", err
	}
	var lines []string
	until(ctx, patience, func() bool {
		lines = g.said(info.Size(), `msg=upgrade step=`, `msg="upgrade failed`, `msg="upgrade done"`)
		return len(lines) > 0 && !strings.Contains(lines[len(lines)-1], "msg=upgrade step=") || !old.Running()
	})
	if len(lines) == 0 {
		lines = []string{"it says nothing of it"}
	}
	last := lines[len(lines)-1]
	_, word, _ := strings.Cut(last, " pid=")
	pid, err := strconv.Atoi(word[:max(strings.IndexByte(word, ' '), 0)])
	if err != nil {
		return "", fmt.Errorf("gateway %s is not upgraded: %s", gatewayNames[g.index], last)
	}
	code, err := old.Wait(patience)
	if err == nil && code != 0 {
		err = fmt.Errorf("gateway %s exited with %d after an upgrade", gatewayNames[g.index], code)
	}
	if err != nil {
		return "", err
	}
	successor, err := old.Successor(pid)
	if err != nil {
		return "", err
	}
	g.proc.Store(successor)
	for _, line := range g.said(info.Size(), `level=WARN msg="WebSockets`, `level=WARN msg="the new process`) {
		return "", fmt.Errorf("gateway %s, after an upgrade: %s", gatewayNames[g.index], line)
	}
	_, moved, _ = strings.Cut(last, `msg="upgrade done" `)
	return moved, nil
}

// said returns the lines of the log, from an offset on, that have one of the texts.
func (g *gateway) said(from int64, texts ...string) (lines []string) {
	b, err := io.ReadAll(io.NewSectionReader(g.log, from, 1<<30))
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(b)) {
		has := func(text string) bool { return strings.Contains(line, text) }
		if slices.ContainsFunc(texts, has) && strings.HasSuffix(line, "\n") {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	return lines
}

// close ends the gateway, and a process that is about to take over from it.
func (g *gateway) close() {
	if p := g.proc.Load(); p != nil {
		p.KillAll()
	}
	g.server.close()
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
