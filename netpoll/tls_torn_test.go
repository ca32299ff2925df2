package netpoll

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// A response that is cut at net/http, because its client does not read, ends in the middle of a
// record: the client finds the end there, and not the rest of something else.
func TestTornRecord(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			cut := make(chan error, 1)
			s := serveTLS(t, func(o *Options, _ *testHandler) {
				o.HTTP = func(c net.Conn) {
					time.AfterFunc(50*time.Millisecond, func() { _ = c.SetWriteDeadline(time.Unix(1, 0)) })
					_, err := c.Write(make([]byte, 64<<20))
					cut <- err
					_ = c.Close()
				}
			})
			c, conn := dialTLS(t, s.Addr(), clientTLS(version))
			defer func() { _ = conn.Close() }()
			_ = conn.SetDeadline(time.Now().Add(patience))
			c.send([]byte("GET / HTTP/1.1\r\nHost: test\r\n\r\n"))
			if err := await(t, cut, "the end of the write"); err == nil {
				t.Fatal("the client took everything")
			}
			if _, err := io.Copy(io.Discard, conn); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("the response ends with %v", err)
			}
		})
	}
}
