package owners

import (
	"testing"
	"unsafe"
)

// TestAllocSize: a gateway holds hundreds of thousands of idle clients, so one that outgrows its
// size class of the Go allocator has to be worth it. The classes are 192, 208, 224, 240 bytes.
func TestAllocSize(t *testing.T) {
	if size := unsafe.Sizeof(client{}); size > 208 {
		t.Errorf("a client has %d bytes, more than its size class of 208", size)
	}
}
