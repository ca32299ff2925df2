//go:build linux

package run

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sluice/loadtest/client"
	"sluice/loadtest/hist"
)

const (
	probeEvery = 20 * time.Millisecond
	probeLimit = 30 * time.Second
)

// probe opens a WebSocket again and again, and closes it when it is there, as new clients see the
// server. Its methods may be called by any goroutine.
type probe struct {
	addr    string
	request []byte
	tls     bool
	stop    chan struct{}
	once    sync.Once // closes stop
	done    sync.WaitGroup

	mu                     sync.Mutex
	connects               *hist.Hist // since the last take
	count, refused, failed int
}

// startProbe starts to connect to the server of a configuration's clients.
func startProbe(cfg client.Config) (*probe, error) {
	d, err := client.NewDriver(cfg.Protocol, cfg.Path)
	if err != nil {
		return nil, err
	}
	path, sub := d.Path()
	more := ""
	if sub != "" {
		more += "Sec-WebSocket-Protocol: " + sub + "\r\n"
	}
	if cfg.Token != "" {
		more += "Authorization: Bearer " + cfg.Token + "\r\n"
	}
	p := &probe{addr: cfg.Addr, tls: cfg.TLS, stop: make(chan struct{}), connects: hist.New(),
		request: fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n", path, cfg.Addr, more)}
	p.done.Go(func() {
		tick := time.NewTicker(probeEvery)
		defer tick.Stop()
		for {
			select {
			case <-p.stop:
				return
			case <-tick.C:
				p.done.Go(p.one)
			}
		}
	})
	return p, nil
}

// one connects once.
func (p *probe) one() {
	began := time.Now()
	err := p.connect()
	took := time.Since(began)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count++
	switch {
	case err == nil:
		p.connects.Record(int64(took))
	case errors.Is(err, unix.ECONNREFUSED):
		p.refused++
	default:
		p.failed++
	}
}

func (p *probe) connect() error {
	conn, err := net.DialTimeout("tcp", p.addr, probeLimit)
	if err != nil {
		return err
	}
	_ = conn.(*net.TCPConn).SetLinger(0) // closed with a reset: no port stays in TIME_WAIT
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(probeLimit))
	if p.tls {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	}
	if _, err := conn.Write(p.request); err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && !strings.HasPrefix(line, "HTTP/1.1 101") {
		err = fmt.Errorf("the server rejected the upgrade: %s", strings.TrimSpace(line))
	}
	return err
}

// take returns how long connects took since the last call, without those that got no WebSocket.
func (p *probe) take() hist.Sparse {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.connects.Sparse()
	p.connects.Reset()
	return s
}

// counts returns how many connects there were, how many were refused, and how many got no WebSocket
// for another reason.
func (p *probe) counts() (all, refused, failed int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count, p.refused, p.failed
}

// end ends the probe, after the connects that it has begun.
func (p *probe) end() {
	p.once.Do(func() { close(p.stop) })
	p.done.Wait()
}
