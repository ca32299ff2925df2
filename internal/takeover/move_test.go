//go:build linux

package takeover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/internal/testkit"
)

// holder is a new process that notes what it is told to do with a batch.
type holder struct {
	taker
	refuse error
	goOn   chan struct{} // not nil: Hold takes until it yields
	said   []string
}

func (h *holder) Hold(_, _ []byte, fds []int) error {
	h.said, h.fds = append(h.said, "hold"), fds
	if h.goOn != nil {
		<-h.goOn
	}
	if h.refuse != nil {
		h.taker.Drop()
	}
	return h.refuse
}

func (h *holder) Serve() (int, error) {
	h.said = append(h.said, "serve")
	for _, fd := range h.fds {
		_, _ = unix.Write(fd, []byte("served"))
	}
	h.taker.Drop()
	return 1, nil
}

func (h *holder) Drop() {
	h.said = append(h.said, "drop")
	h.taker.Drop()
}

// receive has the holder receive from a link, and returns what yields Receive's result.
func (h *holder) receive(l *link) chan error {
	ended := make(chan error, 1)
	go func() { ended <- (&Predecessor{link: l}).Receive(h) }()
	return ended
}

// read returns what was written to the other end of a socket, when all of that is closed.
func read(t *testing.T, near *os.File) string {
	t.Helper()
	_ = near.SetReadDeadline(time.Now().Add(testkit.Patience))
	text, err := io.ReadAll(near)
	if err != nil {
		t.Error(err)
	}
	return string(text)
}

// A new process uses the sockets of a batch only once it is told that they are its own. If it is
// not, because the old process has given it up or has died, it drops them.
func TestBatchHasOneOwner(t *testing.T) {
	for name, c := range map[string]struct {
		old  func(t *testing.T, s *Successor, offer error) // after Offer
		said string
		got  string
	}{
		"it is handed over": {func(t *testing.T, s *Successor, offer error) {
			if offer != nil {
				t.Fatal(offer)
			}
			if err := s.Hand(); err != nil {
				t.Fatal(err)
			}
			if lost, err := s.Served(t.Context()); lost != nil || err != nil {
				t.Error(lost, err)
			}
		}, "[hold serve]", "served"},
		"the old process ends": {func(t *testing.T, s *Successor, offer error) {
			if offer != nil {
				t.Fatal(offer)
			}
		}, "[hold drop]", ""},
		"part of a word": {func(t *testing.T, s *Successor, _ error) {
			_, _ = s.link.conn.Write(frame(kindYours, "{}")[:9])
		}, "[hold drop]", ""},
		"another record": {func(t *testing.T, s *Successor, _ error) {
			_ = s.link.send(kindPrepare, prepare{})
			_ = s.link.send(kindYours, struct{}{})
		}, "[hold drop]", ""},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := twoLinks(t)
			fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			near := os.NewFile(uintptr(fds[0]), "near") // with deadlines, as it does not block
			defer func() { _ = near.Close() }()
			h := new(holder)
			ended := h.receive(b)
			s := &Successor{link: a, turn: make(chan struct{}, 1), holds: testkit.Patience, goesOn: testkit.Patience}
			_, offer := s.Offer([]byte("{}"), nil, fds[1:])
			_ = unix.Close(fds[1])
			c.old(t, s, offer)
			a.close()
			_ = testkit.Await(t, ended, "the end")
			if said := fmt.Sprint(h.said); said != c.said {
				t.Error(said)
			}
			if got := read(t, near); got != c.got {
				t.Errorf("%q was written", got)
			}
		})
	}
}

// A batch that the new process refuses, or does not say that it holds, stays with the old one. The
// new one drops it when it goes on, however late.
func TestBatchStays(t *testing.T) {
	t.Run("refused", func(t *testing.T) {
		a, b := twoLinks(t)
		h := &holder{refuse: errors.New("it is malformed")}
		ended := h.receive(b)
		s := &Successor{link: a, turn: make(chan struct{}, 1), holds: testkit.Patience, goesOn: testkit.Patience}
		if holds, err := s.Offer([]byte("{}"), nil, nil); holds || err == nil || err.Error() != "it is malformed" {
			t.Error(holds, err)
		}
		_ = testkit.Await(t, ended, "the end")
		if said := fmt.Sprint(h.said); said != "[hold]" {
			t.Error(said)
		}
	})
	t.Run("it hangs", func(t *testing.T) {
		a, b := twoLinks(t)
		s := &Successor{link: a, turn: make(chan struct{}, 1), holds: time.Millisecond, goesOn: time.Millisecond}
		if holds, err := s.Offer([]byte("{}"), nil, nil); holds || err != nil {
			t.Error(holds, err)
		}
		if _, err := s.Prepare(t.Context(), nil); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		a.close()
		h := new(holder)
		_ = testkit.Await(t, h.receive(b), "the end") // it goes on
		if said := fmt.Sprint(h.said); said != "[hold drop]" {
			t.Error(said)
		}
	})
	t.Run("it hangs, and this process is to stop", func(t *testing.T) {
		a, _ := twoLinks(t)
		s := &Successor{link: a, turn: make(chan struct{}, 1), holds: time.Millisecond, goesOn: 24 * time.Hour}
		if holds, err := s.Offer([]byte("{}"), nil, nil); holds || err != nil {
			t.Error(holds, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Prepare(ctx, nil); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Run("it does not read", func(t *testing.T) {
		a, b := twoLinks(t)
		s := &Successor{link: a, turn: make(chan struct{}, 1), holds: time.Millisecond}
		if holds, err := s.Offer(make([]byte, 4*maxBody), nil, nil); holds || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(holds, err)
		}
		h := new(holder)
		_ = testkit.Await(t, h.receive(b), "the end")
		if said := fmt.Sprint(h.said); said != "[]" {
			t.Error(said)
		}
	})
	t.Run("it ends", func(t *testing.T) {
		a, b := twoLinks(t)
		b.close()
		s := &Successor{link: a, turn: make(chan struct{}, 1), holds: testkit.Patience, goesOn: testkit.Patience}
		if holds, err := s.Offer([]byte("{}"), nil, nil); holds || !errors.Is(err, errEnded) {
			t.Error(holds, err)
		}
	})
}

// A new process that answers too late gets the batch again, and more time with each. It uses no
// socket before it is told that the batch is its own.
func TestLateAnswer(t *testing.T) {
	a, b := twoLinks(t)
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	near := os.NewFile(uintptr(fds[0]), "near")
	defer func() { _ = near.Close() }()
	h := &holder{goOn: make(chan struct{}, 1)}
	ended := h.receive(b)
	s := &Successor{link: a, turn: make(chan struct{}, 1), holds: time.Millisecond, goesOn: testkit.Patience}
	for late := range 3 {
		if failed, err := s.Prepare(t.Context(), nil); err != nil || len(failed) != 1 {
			t.Fatal(failed, err)
		}
		if want := time.Millisecond << late; s.holds != want {
			t.Errorf("after %d late answers the next may take %v", late, s.holds)
		}
		if holds, err := s.Offer([]byte("{}"), nil, fds[1:]); holds || err != nil {
			t.Fatal(holds, err)
		}
		h.goOn <- struct{}{}
	}
	if _, err := s.Prepare(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	s.holds = testkit.Patience
	h.goOn <- struct{}{}
	if holds, err := s.Offer([]byte("{}"), nil, fds[1:]); !holds || err != nil {
		t.Fatal(holds, err)
	}
	_ = unix.Close(fds[1])
	if err := s.Hand(); err != nil {
		t.Fatal(err)
	}
	if lost, err := s.Served(t.Context()); lost != nil || err != nil {
		t.Error(lost, err)
	}
	a.close()
	_ = testkit.Await(t, ended, "the end")
	if said := fmt.Sprint(h.said); said != "[hold drop hold drop hold drop hold serve]" {
		t.Error(said)
	}
	if got := read(t, near); got != "served" {
		t.Errorf("%q was written", got)
	}
}

// A record that comes in pieces, with pauses longer than a wait, is read whole.
func TestRecordInPieces(t *testing.T) {
	a, b := twoLinks(t)
	text := frame(kindHeld, "{}")
	_, _ = b.conn.Write(text[:3])
	done := make(chan error, 1)
	go func() {
		_, err := a.receive(time.Millisecond, kindHeld)
		done <- err
	}()
	testkit.Until(t, "part of it is read", func() bool {
		n := 0
		raw, err := a.conn.SyscallConn()
		if err == nil {
			err = raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.SIOCINQ) })
		}
		return err == nil && n == 0
	})
	for _, c := range text[3:] {
		_, _ = b.conn.Write([]byte{c})
	}
	if err := testkit.Await(t, done, "the record"); err != nil {
		t.Error(err)
	}
}

// A socket that another process may be using is as it was when a descriptor of it has been taken
// from a record and was dropped.
func TestSocketsAreNotChanged(t *testing.T) {
	a, b := twoLinks(t)
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = unix.Close(fds[0]), unix.Close(fds[1]) }()
	if err := a.send(kindMove, struct{}{}, fds[0]); err != nil {
		t.Fatal(err)
	}
	r, err := b.receive(testkit.Patience, kindMove)
	if err != nil {
		t.Fatal(err)
	}
	taken, err := r.take()
	if err != nil || len(taken) != 1 {
		t.Fatal(taken, err)
	}
	r.close()
	_ = unix.Close(taken[0])
	if flags, err := unix.FcntlInt(uintptr(fds[0]), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
		t.Errorf("%#x, %v", flags, err)
	}
}
