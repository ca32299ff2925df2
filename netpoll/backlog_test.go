package netpoll

import (
	"io"
	"testing"
)

// TestResponseBytes: a response that its client does not read counts until it has been written or
// is dropped, and one that is read does not.
func TestResponseBytes(t *testing.T) {
	bothKinds(t, func(t *testing.T, change func(o *Options, h *testHandler), connect func(s *server) *client) {
		s, asked := serveRequests(t, change)
		body := make([]byte, 16<<20)
		ask := func(n int) *client {
			c := connect(s)
			c.send(get("/later"))
			x := await(t, asked, "Request")
			s.on(x.handle.Loop(), func(*Loop) { x.conn.Respond([]byte("HTTP/1.1 200 OK\r\n\r\n"), body[:n], false) })
			s.sync()
			return c
		}
		level := func() int64 { s.sync(); return s.m.ResponseBytes.Load() }
		reader := ask(len(body))
		if n := level(); n < 1<<20 || n > int64(len(body))+100 {
			t.Errorf("%d bytes wait", n)
		}
		s.passing(func() {
			if n, err := io.Copy(io.Discard, reader.r); err != nil || n < int64(len(body)) {
				t.Errorf("%d bytes, %v", n, err)
			}
		})
		if n := level(); n != 0 {
			t.Errorf("%d bytes wait when all have been read", n)
		}
		gone := ask(len(body))
		if level() == 0 {
			t.Error("it does not count")
		}
		_ = gone.Close()
		s.passing(func() { s.until("it is gone", func() bool { return s.m.ResponseBytes.Load() == 0 }) })
		short := ask(100)
		if n := level(); n != 0 {
			t.Errorf("a short response counts %d bytes", n)
		}
		_ = short.Close()
	})
}
