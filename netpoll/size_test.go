package netpoll

import (
	"testing"
	"unsafe"
)

// TestConnSize: most connections are idle, so their size is the price of a client.
func TestConnSize(t *testing.T) {
	if n := unsafe.Sizeof(Conn{}); n > 224 {
		t.Errorf("a Conn takes %d bytes, more than 224", n)
	} else {
		t.Logf("a Conn takes %d bytes", n)
	}
}
