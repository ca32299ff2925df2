package netpoll

import "testing"

// Connections without a complete request cannot shut out others: the one that has been idle longest
// is closed first, and never a WebSocket.
func TestSilentConnectionsMakeRoom(t *testing.T) {
	s := serve(t, func(o *Options, _ *testHandler) { o.Limits.MaxConns = 3 })
	s.connect()
	silent := dial(t, s.Addr())
	s.until("the silent one is there", func() bool { return s.m.OpenAll.Load() == 2 })
	s.advance(2 * evictIdleMin)
	half := dial(t, s.Addr())
	half.send([]byte("GET /ws HTTP/1.1\r\nHost: "))
	s.until("half a head is there", func() bool { return s.m.BytesIn.Load() > uint64(len(upgradeHead("/ws", ""))) })

	s.connect() // in place of the silent one
	if _, err := silent.Read(make([]byte, 1)); err == nil || s.m.Evicted.Load() != 1 {
		t.Errorf("the silent one: %v, %d evicted", err, s.m.Evicted.Load())
	}
	over := dial(t, s.Addr()) // half a head was just received: it is not idle
	over.send([]byte(upgradeHead("/ws", "")))
	if code, _ := over.status(); code != 503 {
		t.Errorf("status %d, want 503", code)
	}
	_ = over.Close()
	s.until("it has gone", func() bool { return s.m.OpenAll.Load() == 3 })
	s.advance(2 * evictIdleMin)
	s.connect()
	if _, err := half.Read(make([]byte, 1)); err == nil || s.m.Evicted.Load() != 2 || s.m.Open.Load() != 3 {
		t.Errorf("half a head: %v, %d evicted, %d open", err, s.m.Evicted.Load(), s.m.Open.Load())
	}
}
