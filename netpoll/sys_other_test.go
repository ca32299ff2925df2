//go:build !linux

package netpoll

import "testing"

func haveURing(testing.TB) bool { return false }

func uringForTest(t testing.TB) flusher {
	t.Fatal("only Linux has io_uring")
	return nil
}
