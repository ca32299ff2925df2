package netpoll

import (
	"crypto/tls"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"sluice/netpoll/uring"
)

func textLog(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// openRings counts this process's rings.
func openRings(t *testing.T) (n int) {
	t.Helper()
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, _ := os.Readlink(fd); to == "anon_inode:[io_uring]" {
			n++
		}
	}
	return n
}

// testRing is a ring as a fake kernel sees it.
type testRing struct {
	fd     int
	params uring.Params
}

// lose has the ring's first n submissions count as taken, though nothing will ever come of them.
func (r *testRing) lose(n uint32) error {
	queue, err := unix.Mmap(r.fd, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	*(*uint32)(unsafe.Pointer(&queue[r.params.SQ.Head])) += n
	return unix.Munmap(queue)
}

// flushOnce sends bytes to n connections, with TLS of a version, through a ring of 16. Once that is
// made, enter replaces its system call. Each connection must get its bytes once, or is closed.
func flushOnce(t *testing.T, n int, version uint16, enter func(r *testRing, submit, wait uint32) (int, unix.Errno)) (u *uringFlusher, closing []int, failure error) {
	t.Helper()
	l := looseTLSLoop(t)
	var r testRing
	made := false
	calls := uring.Calls{
		Setup: func(entries uint32, p *uring.Params) (fd int, errno unix.Errno) {
			r.fd, errno = uring.Kernel.Setup(entries, p)
			r.params = *p
			return r.fd, errno
		},
		Enter: func(fd int, submit, wait, flags uint32) (int, unix.Errno) {
			if !made {
				return uring.Kernel.Enter(fd, submit, wait, flags)
			}
			return enter(&r, submit, wait)
		},
	}
	u, err := newURingFlusher(calls, 16, func(err error) { failure = err })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.close)
	made = true
	l.output.flusher = u
	conns, peers := pairs(t, l, n)
	read := func(i int) []byte { return readAll(t, peers[i]) }
	if version != 0 {
		read = secureAll(t, conns, peers, version)
	}
	for round := range 3 {
		for _, c := range conns {
			c.Send([]byte{byte(round)})
		}
		l.output.flush()
		for i := range peers {
			switch got := read(i); {
			case conns[i].state == stateReap:
				if round == 0 {
					closing = append(closing, i)
				}
			case len(got) != 1 || got[0] != byte(round):
				t.Errorf("round %d: connection %d got %v", round, i, got)
			}
		}
	}
	return u, closing, failure
}

// TestURingFaults: whatever the kernel does with a submission, each connection gets its bytes once,
// or is closed if it is unknown how many it got.
func TestURingFaults(t *testing.T) {
	if !haveURing(t) {
		return
	}
	some := func(r *testRing, most, submit, wait uint32) (int, unix.Errno) {
		flags := uint32(0)
		if wait > 0 {
			flags = 1 // IORING_ENTER_GETEVENTS
		}
		return uring.Kernel.Enter(r.fd, min(submit, most), wait, flags)
	}
	for _, tc := range []struct {
		name    string
		enter   func(call int, r *testRing, submit, wait uint32) (int, unix.Errno)
		gone    bool // the ring is given up
		closing []int
	}{
		{name: "nothing", enter: func(_ int, r *testRing, submit, wait uint32) (int, unix.Errno) {
			return some(r, 1000, submit, wait)
		}},
		{name: "in parts", enter: func(_ int, r *testRing, submit, wait uint32) (int, unix.Errno) {
			return some(r, 3, submit, wait)
		}},
		{name: "interrupted", enter: func(call int, r *testRing, submit, wait uint32) (int, unix.Errno) {
			if call%2 == 0 {
				return -1, unix.EINTR
			}
			return some(r, 1000, submit, wait)
		}},
		{name: "out of memory at times", enter: func(call int, r *testRing, submit, wait uint32) (int, unix.Errno) {
			if call%3 == 0 {
				return -1, unix.EAGAIN
			}
			return some(r, 5, submit, wait)
		}},
		{name: "nothing taken", enter: func(int, *testRing, uint32, uint32) (int, unix.Errno) { return 0, 0 }},
		{name: "forbidden", gone: true, enter: func(int, *testRing, uint32, uint32) (int, unix.Errno) { return -1, unix.EPERM }},
		{name: "forbidden after a part", gone: true, enter: func(call int, r *testRing, submit, wait uint32) (int, unix.Errno) {
			if call > 0 {
				return -1, unix.EPERM
			}
			return some(r, 5, submit, wait)
		}},
		{name: "results are lost", gone: true, closing: []int{0, 1, 2}, enter: func(call int, r *testRing, submit, wait uint32) (int, unix.Errno) {
			switch call {
			case 0: // takes three and forgets them
				if err := r.lose(3); err != nil {
					t.Error(err)
				}
				return 3, 0
			case 1:
				return -1, unix.EPERM
			}
			return -1, unix.EBADF
		}},
	} {
		for name, version := range map[string]uint16{tc.name: 0, tc.name + ", TLS": tls.VersionTLS13} {
			t.Run(name, func(t *testing.T) {
				call := -1
				u, closing, failure := flushOnce(t, 20, version, func(r *testRing, submit, wait uint32) (int, unix.Errno) {
					call++
					return tc.enter(call, r, submit, wait)
				})
				if !slices.Equal(closing, tc.closing) || (u.ring == nil) != tc.gone || (failure != nil) != tc.gone {
					t.Errorf("closing: %v, given up: %v, because of %v", closing, u.ring == nil, failure)
				}
			})
		}
	}
}
