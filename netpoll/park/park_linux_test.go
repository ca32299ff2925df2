package park

import (
	"testing"

	"golang.org/x/sys/unix"
)

// loop is an epoll with a socket that the far end makes ready, and one that mark makes ready.
type loop struct {
	*Parker
	epoll, near, far int
	mark             [2]int
}

func newLoop(t *testing.T) *loop {
	t.Helper()
	l := new(loop)
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	pair := func() (fds [2]int) {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		must(err)
		t.Cleanup(func() { _, _ = unix.Close(fds[0]), unix.Close(fds[1]) })
		return fds
	}
	var err error
	l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	must(err)
	t.Cleanup(func() { _ = unix.Close(l.epoll) })
	socket := pair()
	l.near, l.far, l.mark = socket[0], socket[1], pair()
	for _, fd := range []int{l.near, l.mark[0]} {
		must(unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}))
	}
	l.Parker, err = New(l.near, func() { _, _ = unix.Write(l.mark[1], []byte{0}) })
	must(err)
	t.Cleanup(l.Close)
	return l
}

func (l *loop) send() { _, _ = unix.Write(l.far, []byte{1}) }

func (l *loop) read(fd int) {
	var b [8]byte
	_, _ = unix.Read(fd, b[:])
}

// TestWaitForASocket: a wait ends when a socket is ready, before or after it has begun.
func TestWaitForASocket(t *testing.T) {
	l := newLoop(t)
	if l.Ready() {
		t.Fatal("ready with nothing sent")
	}
	l.send()
	if ready, waited := l.Wait(); !ready || waited || !l.Ready() {
		t.Fatalf("a ready socket: %v, waited: %v", ready, waited)
	}
	for range 100 {
		l.read(l.near)
		l.Notice(false) // as a loop that is at work
		go l.send()
		if ready, _ := l.Wait(); !ready {
			t.Fatal("the wait ended without a socket")
		}
	}
}

// TestWake: a wake ends the wait in progress, or the next one, and only one.
func TestWake(t *testing.T) {
	l := newLoop(t)
	for range 100 {
		go l.Wake()
		if ready, _ := l.Wait(); ready {
			t.Fatal("ready without a socket")
		}
	}
	l.Wake()
	if ready, _ := l.Wait(); ready {
		t.Fatal("a wake before the wait is lost")
	}
	l.send()
	if ready, _ := l.Wait(); !ready {
		t.Fatal("the wake has ended two waits")
	}
}

// TestYield: a yield ends by its own mark.
func TestYield(t *testing.T) {
	l := newLoop(t)
	for range 10 {
		if !l.Yield() || !l.Ready() {
			t.Fatal("it ended without the mark")
		}
		l.read(l.mark[0])
	}
}

// TestWatch: a socket whose input is not watched is not ready, but is once it is watched again.
func TestWatch(t *testing.T) {
	l := newLoop(t)
	if !l.Watch(l.near, false) {
		t.Fatal("it is not watched at all")
	}
	l.send()
	if l.Ready() {
		t.Fatal("ready though its input is not watched")
	}
	if !l.Watch(l.near, true) || !l.Ready() {
		t.Fatal("what arrived meanwhile is lost")
	}
}

// TestNotWatched: a descriptor that no epoll watches has no parker.
func TestNotWatched(t *testing.T) {
	l := newLoop(t)
	if p, err := New(l.far, nil); err == nil {
		p.Close()
		t.Fatal("a parker was made")
	}
}
