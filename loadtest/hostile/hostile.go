//go:build linux

package hostile

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"sluice/loadtest/wire"
	"sluice/wsproto"
)

// The attacks.
const (
	Deflate = "deflate" // compressed frames that take long to inflate, and whose text takes long to parse
	Plain   = "plain"   // the same text without compression
)

// MaxAttackers bounds the connections of an attack.
const MaxAttackers = 64

const (
	longest    = 10 * time.Minute      // of an attack
	chunk      = 64 << 10              // bytes of a write
	retry      = 20 * time.Millisecond // after a connect that failed
	openLimit  = 30 * time.Second      // of the first connect
	replyBytes = 4 << 20               // of a message from the server
)

// Config is an attack. It is sent to a process of attackers as JSON.
type Config struct {
	Addr      string        `json:"addr"` // ip:port of the server, on the loopback
	Path      string        `json:"path"` // of upgrades
	Attack    string        `json:"attack"`
	Attackers int           `json:"attackers"` // connections at a time
	Size      int           `json:"size"`      // bytes of a message; 0: a mebibyte, the limit of many servers
	Limit     time.Duration `json:"limit"`     // the attack ends by itself after this
}

// check reports what is wrong with c.
func (c Config) check() error {
	addr, err := netip.ParseAddrPort(c.Addr)
	switch {
	case err != nil:
		return fmt.Errorf("the server's address is not ip:port: %w", err)
	case !addr.Addr().Unmap().IsLoopback():
		return fmt.Errorf("%s is not on the loopback: attacks go to servers on this machine only", addr.Addr())
	case c.Attack != Deflate && c.Attack != Plain:
		return fmt.Errorf("unknown attack %q: use %s or %s", c.Attack, Deflate, Plain)
	case c.Attackers < 1 || c.Attackers > MaxAttackers:
		return fmt.Errorf("%d attackers: there must be 1 to %d", c.Attackers, MaxAttackers)
	case c.Size != 0 && (c.Size < 1<<10 || c.Size > usualSize):
		return fmt.Errorf("messages of %d bytes: they must have 1024 to %d", c.Size, usualSize)
	case c.Limit <= 0 || c.Limit > longest:
		return fmt.Errorf("an attack of %v: it must end after %v at the latest", c.Limit, longest)
	}
	return nil
}

// Counts is what attackers have done.
type Counts struct {
	Frames   int64         `json:"frames"`   // that were sent as a whole
	Bytes    int64         `json:"bytes"`    // that the server's machine took
	Connects int64         `json:"connects"` // that got a WebSocket
	Failed   int64         `json:"failed"`   // that got none
	Closes   map[int]int64 `json:"closes"`   // connections that the server ended, by close code; 1006: without one
}

// add adds o to c.
func (c *Counts) add(o Counts) {
	c.Frames += o.Frames
	c.Bytes += o.Bytes
	c.Connects += o.Connects
	c.Failed += o.Failed
	for code, n := range o.Closes {
		c.Closes[code] += n
	}
}

// Closed returns how many connections the server has ended.
func (c Counts) Closed() (all int64) {
	for _, n := range c.Closes {
		all += n
	}
	return all
}

// Attack is attackers at work.
type Attack struct {
	cfg       Config
	script    script
	cancel    context.CancelFunc
	done      sync.WaitGroup
	attackers []*attacker
}

// attacker is one of them. Its goroutine owns it.
type attacker struct {
	*Attack
	counts Counts
}

// Begin begins an attack, after a first WebSocket has shown that the server has what it needs. It
// ends with End, with ctx, or after the limit.
func Begin(ctx context.Context, cfg Config) (*Attack, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if cfg.Size == 0 {
		cfg.Size = usualSize
	}
	a := &Attack{cfg: cfg, script: scriptOf(cfg.Attack, cfg.Size)}
	first, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	conn, err := a.dial(first)
	if err != nil {
		return nil, err
	}
	wire.Reset(conn.Conn)
	ctx, a.cancel = context.WithTimeout(ctx, cfg.Limit)
	for i := range cfg.Attackers {
		one := &attacker{Attack: a, counts: Counts{Closes: map[int]int64{}}}
		a.attackers = append(a.attackers, one)
		a.done.Go(func() { one.attack(ctx, i) })
	}
	return a, nil
}

// End ends the attack, and returns what it has done.
func (a *Attack) End() Counts {
	a.cancel()
	a.done.Wait()
	all := Counts{Closes: map[int]int64{}}
	for _, one := range a.attackers {
		all.add(one.counts)
	}
	return all
}

// dial opens a WebSocket.
func (a *Attack) dial(ctx context.Context) (*wire.Conn, error) {
	var d net.Dialer
	tcp, err := d.DialContext(ctx, "tcp", a.cfg.Addr)
	if err != nil {
		return nil, err
	}
	// The end of ctx ends a handshake that the server does not answer.
	stop := context.AfterFunc(ctx, func() { _ = tcp.Close() })
	defer stop()
	conn, err := wire.Upgrade(tcp, wire.Options{Path: a.cfg.Path, Deflate: a.cfg.Attack == Deflate, Limit: replyBytes})
	if err != nil {
		return nil, err
	}
	if a.cfg.Attack == Deflate && !conn.Deflates() {
		wire.Reset(conn.Conn)
		return nil, errors.New("the server does not compress: start it with compression, or use the attack " + Plain)
	}
	return conn, nil
}

// attack sends the script on one connection after the other, until ctx is done. Connections begin
// with different endings.
func (a *attacker) attack(ctx context.Context, index int) {
	for i := index; ctx.Err() == nil; i++ {
		conn, err := a.dial(ctx)
		if err != nil {
			if ctx.Err() == nil {
				a.counts.Failed++
			}
			t := time.NewTimer(retry)
			select {
			case <-t.C:
			case <-ctx.Done():
			}
			t.Stop()
			continue
		}
		a.counts.Connects++
		a.converse(ctx, conn, i)
	}
}

// converse sends the script on a connection, with the endings from first on, until the server
// closes it or ctx is done, and reads what the server says meanwhile: what it cannot send is no
// reason to close the connection.
func (a *attacker) converse(ctx context.Context, conn *wire.Conn, first int) {
	ended := make(chan int, 1)
	stop := context.AfterFunc(ctx, func() { wire.Reset(conn.Conn) })
	go func() {
		code := drain(conn)
		wire.Reset(conn.Conn) // ends a write that waits
		ended <- code
	}()
	defer func() {
		code := <-ended
		if stop() { // else ctx has ended it
			a.counts.Closes[code]++
		}
	}()
	for i := first; ; i++ { // a server may put up with an ending
		for _, m := range a.script.opening {
			for range m.times {
				if !a.send(conn, m.wire) {
					return
				}
			}
		}
		if !a.send(conn, a.script.endings[i%len(a.script.endings)]) {
			return
		}
	}
}

// send sends a frame, and reports whether the server took it.
func (a *attacker) send(conn *wire.Conn, frame []byte) bool {
	for rest := frame; len(rest) > 0; {
		n, err := conn.Write(rest[:min(len(rest), chunk)])
		rest = rest[n:]
		a.counts.Bytes += int64(n)
		if err != nil {
			return false
		}
	}
	a.counts.Frames++
	return true
}

// drain reads until the connection has ended, and returns the close code.
func drain(conn *wire.Conn) int {
	frames := make(chan wire.Frame)
	go conn.Receive(frames, nil)
	for f := range frames { // the last one is a close frame
		if f.Op == wsproto.OpClose {
			return f.Code
		}
	}
	return wire.NoClose
}
