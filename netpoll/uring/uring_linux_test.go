package uring

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// available reports whether io_uring can be tested here: a kernel or a sandbox may deny it.
func available(t testing.TB) bool {
	t.Helper()
	r, err := New(8, Kernel)
	if err == nil {
		err = r.Probe()
		r.Close()
	}
	if err != nil {
		t.Logf("NOT TESTED: io_uring is not available here: %v", err)
	}
	return err == nil
}

// newRing returns a ring that is closed when the test ends.
func newRing(t testing.TB, entries uint32, calls Calls) *Ring {
	t.Helper()
	r, err := New(entries, calls)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// pair returns two connected sockets that do not block.
func pair(t testing.TB) (near, far int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = unix.Close(fds[0]), unix.Close(fds[1]) })
	return fds[0], fds[1]
}

// TestSends: sends of several rounds arrive whole, and their slots and results are those of Add.
func TestSends(t *testing.T) {
	if !available(t) {
		return
	}
	r := newRing(t, 4, Kernel)
	near, far := pair(t)
	got := make([]byte, 64)
	for round := range 5 { // more than there are slots
		want := map[uint32]int32{}
		var all []byte
		for i := range 3 {
			b := fmt.Appendf(nil, "%d.%d", round, i)[:2+i%2]
			want[r.Add(int32(near), b)] = int32(len(b))
			all = append(all, b...)
		}
		if left, err := r.Submit(); left != 0 || err != nil {
			t.Fatalf("%d sends were not taken: %v", left, err)
		}
		for range 3 {
			slot, result, err := r.Next()
			if size, ok := want[slot]; err != nil || !ok || result != size {
				t.Fatalf("slot %d: result %d, %v; want %v", slot, result, err, want)
			}
			delete(want, slot)
		}
		if due := r.Taken(); due != 0 {
			t.Fatalf("%d results are due", due)
		}
		if n, err := unix.Read(far, got); err != nil || !bytes.Equal(got[:n], all) {
			t.Fatalf("received %q, %v, want %q", got[:max(n, 0)], err, all)
		}
	}
}

// TestErrors: a send that fails has its errno as its result, and others are not affected.
func TestErrors(t *testing.T) {
	if !available(t) {
		return
	}
	r := newRing(t, 4, Kernel)
	near, _ := pair(t)
	b := []byte("x")
	want := map[uint32]int32{r.Add(-1, b): -int32(unix.EBADF), r.Add(int32(near), b): 1}
	if left, err := r.Submit(); left != 0 || err != nil {
		t.Fatalf("%d sends were not taken: %v", left, err)
	}
	for range 2 {
		if slot, result, err := r.Next(); err != nil || result != want[slot] {
			t.Errorf("slot %d: result %d, %v; want %d", slot, result, err, want[slot])
		}
	}
}

// TestNotTaken: sends that the kernel does not take leave the queue, and their number is returned.
func TestNotTaken(t *testing.T) {
	if !available(t) {
		return
	}
	var denied unix.Errno
	calls := Kernel
	calls.Enter = func(fd int, submit, wait, flags uint32) (int, unix.Errno) {
		if denied != 0 {
			return -1, denied
		}
		return Kernel.Enter(fd, submit, wait, flags)
	}
	r := newRing(t, 4, calls)
	near, _ := pair(t)
	b := []byte("x")
	denied = unix.EBUSY
	r.Add(int32(near), b)
	r.Add(int32(near), b)
	if left, err := r.Submit(); left != 2 || err == nil {
		t.Fatalf("%d sends left, %v", left, err)
	}
	denied = 0
	slot := r.Add(int32(near), b)
	if left, err := r.Submit(); left != 0 || err != nil {
		t.Fatalf("%d sends left, %v", left, err)
	}
	if got, result, err := r.Next(); got != slot || result != 1 || err != nil || r.Taken() != 0 {
		t.Fatalf("slot %d, result %d, %v", got, result, err)
	}
}

// TestFlags: a kernel that knows fewer flags gets fewer.
func TestFlags(t *testing.T) {
	if !available(t) {
		return
	}
	for _, known := range []uint32{^uint32(0), ^uint32(setupNoSQArray), setupSubmitAll, 0} {
		var asked []uint32
		calls := Kernel
		calls.Setup = func(entries uint32, p *Params) (int, unix.Errno) {
			asked = append(asked, p.Flags)
			if p.Flags&^known != 0 {
				return -1, unix.EINVAL
			}
			return Kernel.Setup(entries, p)
		}
		r, err := New(8, calls)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Probe(); err != nil {
			t.Errorf("with the flags %#x: %v", asked[len(asked)-1], err)
		}
		r.Close()
		if !slices.IsSortedFunc(asked, func(a, b uint32) int { return int(b) - int(a) }) {
			t.Errorf("asked for %#x", asked)
		}
	}
	calls := Kernel
	calls.Setup = func(uint32, *Params) (int, unix.Errno) { return -1, unix.EINVAL }
	if _, err := New(8, calls); err == nil {
		t.Error("a ring was made though the kernel denied it")
	}
}
