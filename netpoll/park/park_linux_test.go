package park

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// loop is an epoll with a socket that the far end makes ready, one that mark makes ready, and an
// eventfd, which it watches as gnet does.
type loop struct {
	*Parker
	epoll, near, far int
	mark             [2]int
	tasks            int
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
	l.tasks, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	must(err)
	t.Cleanup(func() { _ = unix.Close(l.tasks) })
	must(unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, l.tasks, &unix.EpollEvent{Fd: int32(l.tasks), Events: unix.EPOLLIN | unix.EPOLLPRI | unix.EPOLLET | unix.EPOLLRDHUP}))
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

// ready returns the descriptors that gnet would find ready.
func (l *loop) ready() (fds []int) {
	var events [8]unix.EpollEvent
	n, _ := unix.EpollWait(l.epoll, events[:], 0)
	for _, e := range events[:max(n, 0)] {
		fds = append(fds, int(e.Fd))
	}
	return fds
}

// TestEvents: what is ready is returned, and gnet finds it, too; also its eventfd, of which the
// kernel reports an event once.
func TestEvents(t *testing.T) {
	l := newLoop(t)
	if got := l.Events(); len(got) != 0 {
		t.Fatalf("%v is ready", got)
	}
	l.send()
	for range 2 {
		if got := l.Events(); len(got) != 1 || int(got[0].Fd) != l.near || got[0].Events != unix.EPOLLIN {
			t.Fatalf("ready: %v, want input at %d", got, l.near)
		}
	}
	if got := l.ready(); !slices.Equal(got, []int{l.near}) {
		t.Fatalf("gnet finds %v, want %d", got, l.near)
	}
	l.read(l.near)
	for range 3 {
		if _, err := unix.Write(l.tasks, []byte{7: 1}); err != nil {
			t.Fatal(err)
		}
		if got := l.Events(); len(got) != 1 || int(got[0].Fd) != l.tasks {
			t.Fatalf("ready: %v, want the eventfd", got)
		}
		if got := l.ready(); !slices.Equal(got, []int{l.tasks}) {
			t.Fatalf("gnet finds %v, want the eventfd", got)
		}
		if got := l.ready(); len(got) != 0 {
			t.Fatalf("gnet finds %v again", got)
		}
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
