package netpoll

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"sluice/internal/owner"
)

func newPatientPair(t *testing.T) (*deadlineConn, net.Conn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	far, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	near, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	return newDeadlineConn(near.(*net.TCPConn)), far
}

// passed has a deadline found passed long after it was, as in a process that was stopped.
func (p *ioDeadline) passed(t *testing.T) {
	t.Helper()
	if err := p.put(time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	p.at = time.Now().Add(-2 * owner.Slack)
	p.mu.Unlock()
	if err := p.set(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
}

func TestPatientConn(t *testing.T) {
	c, far := newPatientPair(t)
	b := make([]byte, 8)
	c.read.passed(t)
	if _, err := far.Write([]byte("hi")); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(b); err != nil || string(b[:n]) != "hi" {
		t.Fatalf("got %q, %v", b[:n], err)
	}
	c.write.passed(t)
	if _, err := c.Write([]byte("ho")); err != nil {
		t.Fatal(err)
	}
	if n, err := far.Read(b); err != nil || string(b[:n]) != "ho" {
		t.Fatalf("got %q, %v", b[:n], err)
	}
	// Once only, and a deadline in the past is an order.
	if err := c.read.set(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	c.read.passed(t)
	if err := c.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
}
