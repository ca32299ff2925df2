package netpoll

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// After a write at net/http that has failed, a record or a part of one is missing: the client finds
// the end there, and not a later record.
func TestWriteThatFailed(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			cut := make(chan error, 1)
			s := serveTLS(t, func(o *Options, _ *testHandler) {
				o.HTTP = func(c net.Conn) {
					_ = c.SetWriteDeadline(time.Unix(1, 0))
					_, err := c.Write(make([]byte, 1<<10)) // sealed, and not sent
					cut <- err
					_ = c.Close()
				}
			})
			c, conn := dialTLS(t, s.Addr(), clientTLS(version))
			defer func() { _ = conn.Close() }()
			_ = conn.SetDeadline(time.Now().Add(patience))
			c.send([]byte("GET / HTTP/1.1\r\nHost: test\r\n\r\n"))
			if err := await(t, cut, "the end of the write"); err == nil {
				t.Fatal("the write did not fail")
			}
			if _, err := io.Copy(io.Discard, conn); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("the response ends with %v", err)
			}
		})
	}
}
