package session

import (
	"testing"
	"unsafe"
)

// TestAllocSize: a gateway holds hundreds of thousands of idle sessions, so one that outgrows its
// size class of the Go allocator has to be worth it. The classes are 208, 224, 240, 256, 288 bytes.
func TestAllocSize(t *testing.T) {
	if size := unsafe.Sizeof(Session{}); size > 224 {
		t.Errorf("a session has %d bytes, more than its size class of 224", size)
	}
	if size := unsafe.Sizeof(Sub{}); size > 96 {
		t.Errorf("a subscription has %d bytes, more than its size class of 96", size)
	}
}
