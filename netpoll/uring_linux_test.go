package netpoll

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
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

// flushOnce has a flusher with a ring of 16, whose system call is enter once it is made, send bytes to n connections. Each must
// get them once unless it is doomed.
func flushOnce(t *testing.T, n int, enter func(r *uring, submit, wait uint32) (int, unix.Errno)) (u *uringFlusher, doomed []int, failure error) {
	t.Helper()
	l := looseLoop(t, 1<<20)
	u, err := newURingFlusher(kernelURing, 16, func(err error) { failure = err })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.close)
	r := u.ring
	r.calls.enter = func(_ int, submit, wait, _ uint32) (int, unix.Errno) { return enter(r, submit, wait) }
	l.flusher = u
	conns, peers := pairs(t, l, n)
	for round := range 3 {
		for _, c := range conns {
			c.Send([]byte{byte(round)})
		}
		l.flush()
		for i, fd := range peers {
			switch got := readAll(t, fd); {
			case conns[i].state == stateDoomed:
				if round == 0 {
					doomed = append(doomed, i)
				}
			case len(got) != 1 || got[0] != byte(round):
				t.Errorf("round %d: connection %d got %v", round, i, got)
			}
		}
	}
	return u, doomed, failure
}

// TestURingFaults: whatever the kernel does with a submission, each connection gets its bytes once, or is closed if nobody
// knows what it got.
func TestURingFaults(t *testing.T) {
	if !haveURing(t) {
		return
	}
	some := func(r *uring, most, submit, wait uint32) (int, unix.Errno) {
		flags := uint32(0)
		if wait > 0 {
			flags = uringGetEvents
		}
		return kernelURing.enter(r.fd, min(submit, most), wait, flags)
	}
	for _, tc := range []struct {
		name   string
		enter  func(call int, r *uring, submit, wait uint32) (int, unix.Errno)
		gone   bool // the ring is given up
		doomed []int
	}{
		{name: "nothing", enter: func(_ int, r *uring, submit, wait uint32) (int, unix.Errno) {
			return some(r, 1000, submit, wait)
		}},
		{name: "in parts", enter: func(_ int, r *uring, submit, wait uint32) (int, unix.Errno) {
			return some(r, 3, submit, wait)
		}},
		{name: "interrupted", enter: func(call int, r *uring, submit, wait uint32) (int, unix.Errno) {
			if call%2 == 0 {
				return -1, unix.EINTR
			}
			return some(r, 1000, submit, wait)
		}},
		{name: "out of memory at times", enter: func(call int, r *uring, submit, wait uint32) (int, unix.Errno) {
			if call%3 == 0 {
				return -1, unix.EAGAIN
			}
			return some(r, 5, submit, wait)
		}},
		{name: "nothing taken", enter: func(int, *uring, uint32, uint32) (int, unix.Errno) { return 0, 0 }},
		{name: "forbidden", gone: true, enter: func(int, *uring, uint32, uint32) (int, unix.Errno) { return -1, unix.EPERM }},
		{name: "forbidden after a part", gone: true, enter: func(call int, r *uring, submit, wait uint32) (int, unix.Errno) {
			if call > 0 {
				return -1, unix.EPERM
			}
			return some(r, 5, submit, wait)
		}},
		{name: "results are lost", gone: true, doomed: []int{0, 1, 2}, enter: func(call int, r *uring, submit, wait uint32) (int, unix.Errno) {
			switch call {
			case 0: // takes three and forgets them
				*r.sqHead += 3
				return 3, 0
			case 1:
				return -1, unix.EPERM
			}
			return -1, unix.EBADF
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			call := -1
			u, doomed, failure := flushOnce(t, 20, func(r *uring, submit, wait uint32) (int, unix.Errno) {
				call++
				return tc.enter(call, r, submit, wait)
			})
			if !slices.Equal(doomed, tc.doomed) || (u.ring == nil) != tc.gone || (failure != nil) != tc.gone {
				t.Errorf("doomed: %v, given up: %v, because of %v", doomed, u.ring == nil, failure)
			}
		})
	}
}

// TestURingFlags: kernels that know fewer flags get fewer.
func TestURingFlags(t *testing.T) {
	if !haveURing(t) {
		return
	}
	for _, known := range []uint32{^uint32(0), ^uint32(uringNoSQArray), uringSubmitAll, 0} {
		var asked []uint32
		calls := kernelURing
		calls.setup = func(entries uint32, p *uringParams) (int, unix.Errno) {
			asked = append(asked, p.flags)
			if p.flags&^known != 0 {
				return -1, unix.EINVAL
			}
			return kernelURing.setup(entries, p)
		}
		r, err := newURing(8, calls)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.probe(); err != nil {
			t.Errorf("with the flags %#x: %v", asked[len(asked)-1], err)
		}
		r.close()
		if !slices.IsSortedFunc(asked, func(a, b uint32) int { return int(b) - int(a) }) {
			t.Errorf("asked for %#x", asked)
		}
	}
	calls := kernelURing
	calls.setup = func(uint32, *uringParams) (int, unix.Errno) { return -1, unix.EINVAL }
	if _, err := newURing(8, calls); err == nil {
		t.Error("made without a kernel")
	}
}
