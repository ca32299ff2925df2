package netpoll

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A claimed port is not open: a client that connects before the event loops run is refused, not
// lost.
func TestClaimedPortIsNotOpen(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0", ":0", "0.0.0.0:0"} {
		at, hold, err := claimPort(addr)
		if err != nil {
			t.Fatalf("%s: %v", addr, err)
		}
		if at.Port == 0 {
			t.Errorf("%s: no port was chosen", addr)
		}
		if c, err := net.Dial("tcp", at.String()); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("%s: connecting gives %v, want it refused", addr, err)
			if err == nil {
				_ = c.Close()
			}
		}
		_ = unix.Close(hold)
	}
}

// A port that another socket listens on is found, whatever options that socket has.
func TestClaimOfAPortInUse(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "0.0.0.0", ""} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(l.Addr().String())
		if _, _, err := claimPort(net.JoinHostPort(host, port)); !errors.Is(err, unix.EADDRINUSE) {
			t.Errorf("%q: %v, want EADDRINUSE", host, err)
		}
		_ = l.Close()
	}
	// Another gateway of the same user: its sockets share their port with those who ask for it.
	s := serve(t, nil)
	if _, _, err := claimPort(s.Addr().String()); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("an engine's port: %v, want EADDRINUSE", err)
	}
	if err := listenError("x", unix.EADDRINUSE); !strings.Contains(err.Error(), "in use by another program") {
		t.Error(err)
	}
}

// The event loops can listen on a claimed port.
func TestClaimedPortIsForListeners(t *testing.T) {
	at, hold, err := claimPort("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(hold)
	fd, err := bindPort(at, reuse{addr: true, port: true})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Listen(fd, 1); err != nil {
		t.Errorf("a listener like gnet's: %v", err)
	}
}

// The first client that finds the port open is served, also by net/http, which may need any of the
// loops.
func TestFirstClientIsServed(t *testing.T) {
	for range 10 {
		at, hold, err := claimPort("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_ = unix.Close(hold)
		first := make(chan net.Conn, 1)
		go func() {
			for end := time.Now().Add(patience); time.Now().Before(end); {
				if c, err := net.Dial("tcp", at.String()); err == nil {
					first <- c
					return
				}
			}
			close(first)
		}()
		s := serve(t, func(o *Options, h *testHandler) {
			o.Addr, o.Loops = at.String(), 4
			o.HTTP = func(c net.Conn) {
				defer c.Close()
				for i := range o.Loops {
					if h.mailbox[i] == nil {
						t.Error("a connection is at net/http before all loops have started")
					}
				}
				_, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
			}
		})
		c := &client{await(t, first, "an open port"), t, nil}
		c.r = bufio.NewReader(c)
		_ = c.SetDeadline(time.Now().Add(patience))
		c.send([]byte("GET /page HTTP/1.1\r\nHost: test\r\n\r\n"))
		if code, _ := c.status(); code != 204 {
			t.Errorf("status %d", code)
		}
		_ = c.Close()
		_ = s.Stop(context.Background())
	}
}
