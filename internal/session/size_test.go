package session

import (
	"testing"
	"unsafe"
)

// TestAllocSize: a gateway holds hundreds of thousands of idle clients. A session is a part of its
// client, which has no room left in its size class: see internal/owners.
func TestAllocSize(t *testing.T) {
	if size := unsafe.Sizeof(Session{}); size > 160 {
		t.Errorf("a session has %d bytes, more than 160", size)
	}
	if size := unsafe.Sizeof(Sub{}); size > 96 {
		t.Errorf("a subscription has %d bytes, more than its size class of 96", size)
	}
}
