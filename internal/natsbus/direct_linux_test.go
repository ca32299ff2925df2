package natsbus

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// directPair returns a direct connection and its peer.
func directPair(t *testing.T) (near net.Conn, far *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	near, far = direct(c), peer.(*net.TCPConn)
	if _, ok := near.(*directConn); !ok {
		t.Fatalf("%T is not direct", near)
	}
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	return near, far
}

// TestDirect: a direct connection carries what a connection does, whatever fits into the socket.
func TestDirect(t *testing.T) {
	near, far := directPair(t)
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<20) // more than the kernel takes at once
	go func() {
		if n, err := near.Write(want); n != len(want) || err != nil {
			t.Errorf("%d of %d bytes were written: %v", n, len(want), err)
		}
		_ = near.(*directConn).Conn.(*net.TCPConn).CloseWrite()
	}()
	go func() {
		_, _ = io.Copy(far, far)
		_ = far.CloseWrite()
	}()
	got, err := io.ReadAll(near)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes were read, want %d: %v", len(got), len(want), err)
	}
	if n, err := near.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Fatalf("read after the end: %d, %v", n, err)
	}
}

// TestDirectErrors: deadlines, a close, and a reset end reads and writes as they do on a net.Conn.
func TestDirectErrors(t *testing.T) {
	b := make([]byte, 1<<20)
	t.Run("deadline", func(t *testing.T) {
		near, _ := directPair(t)
		_ = near.SetDeadline(time.Now().Add(20 * time.Millisecond))
		if n, err := near.Read(b); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read: %d, %v", n, err)
		}
		written := 0
		for {
			n, err := near.Write(b) // fills the sockets
			written += n
			if err != nil {
				if !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("write: %v", err)
				}
				break
			}
		}
		_ = near.SetDeadline(time.Time{})
	})
	t.Run("close", func(t *testing.T) {
		near, _ := directPair(t)
		read := make(chan error, 1)
		go func() {
			_, err := near.Read(b)
			read <- err
		}()
		_ = near.Close()
		if err := <-read; !errors.Is(err, net.ErrClosed) {
			t.Errorf("read: %v", err)
		}
		if _, err := near.Write(b); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write: %v", err)
		}
	})
	t.Run("reset", func(t *testing.T) {
		near, far := directPair(t)
		_ = far.SetLinger(0)
		_ = far.Close()
		if _, err := near.Read(b); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read: %v", err)
		}
		if _, err := near.Write(b); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("write: %v", err)
		}
	})
}

// TestDirectAllocations: neither a read nor a write allocates.
func TestDirectAllocations(t *testing.T) {
	near, far := directPair(t)
	b := make([]byte, 64)
	if n := testing.AllocsPerRun(100, func() {
		_, _ = far.Write(b)
		_, _ = io.ReadFull(near, b)
		_, _ = near.Write(b)
		_, _ = io.ReadFull(far, b)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestDirectOnlySockets: what is no socket stays as it is.
func TestDirectOnlySockets(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if c := direct(a); c != a {
		t.Errorf("%T in place of a pipe", c)
	}
}
