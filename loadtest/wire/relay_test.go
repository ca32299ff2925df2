//go:build linux

package wire

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// echo listens and returns what it gets.
func echo(t *testing.T) (addr string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c) }()
		}
	}()
	return l.Addr().String()
}

// During a cut bytes vanish without an error; after it both sides get one.
func TestRelayCut(t *testing.T) {
	p, err := NewRelay(echo(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	dial := func() net.Conn {
		c, err := net.Dial("tcp", p.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	round := func(c net.Conn) error {
		_ = c.SetDeadline(time.Now().Add(writeLimit))
		if _, err := c.Write([]byte("hello")); err != nil {
			return err
		}
		_, err := io.ReadFull(c, make([]byte, 5))
		return err
	}
	c := dial()
	if err := round(c); err != nil || !p.Busy() {
		t.Fatalf("through the relay: %v", err)
	}
	p.SetCut(true)
	late := dial()
	for name, c := range map[string]net.Conn{"before": c, "during": late} {
		if _, err := c.Write([]byte("lost")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s the cut: read %v, want silence", name, err)
		}
	}
	p.SetCut(false)
	for name, c := range map[string]net.Conn{"before": c, "during": late} {
		_ = c.SetReadDeadline(time.Now().Add(writeLimit))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s the cut: %v afterwards, want a reset", name, err)
		}
	}
	if err := round(dial()); err != nil {
		t.Errorf("after the cut: %v", err)
	}
}

func TestRelayWithoutNode(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	p, err := NewRelay(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	c, err := net.Dial("tcp", p.Addr())
	if err == nil {
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(writeLimit))
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v, want a reset", err)
	}
}
