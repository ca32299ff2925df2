package netpoll

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// HoldsProcessor says whether a waiting Loop holds a processor of Go's scheduler, of which there should then be one more
// than loops.
const HoldsProcessor = false

// parker waits for the sockets of an event loop in Go's scheduler: gnet's epoll, which is readable while one of its
// descriptors is ready, is in an epoll of ours, and that is watched by Go's. The one in between is there to be taken
// out of the way: without it, all that comes while the loop works would wake an idle thread that waits in Go's, to find
// nothing to do. All methods but wake are the loop's.
type parker struct {
	inner int      // gnet's epoll
	outer int      // ours
	file  *os.File // owns outer
	raw   syscall.RawConn
	mark  func()                // makes inner readable
	look  func(fd uintptr) bool // for raw.Read

	listeners []int // gnet's, watched by inner

	heard  bool // outer is told of inner
	looked bool // since the wait began
	waited bool // it was not ready at first
	yields bool // not to be looked at before: mark makes it ready
}

// newParker returns the parker of the event loop that watches fd. mark must make fd readable.
func newParker(fd int, mark func()) (*parker, error) {
	p := &parker{mark: mark, heard: true}
	var err error
	var watched []int
	if p.inner, watched, err = epollOf(fd); err != nil {
		return nil, err
	}
	for _, fd := range watched {
		if is, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err == nil && is != 0 {
			p.listeners = append(p.listeners, fd)
		}
	}
	if p.outer, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	_ = unix.SetNonblock(p.outer, true) // nothing to an epoll, but to os.NewFile: have it watched
	p.file = os.NewFile(uintptr(p.outer), "epoll")
	err = unix.EpollCtl(p.outer, unix.EPOLL_CTL_ADD, p.inner, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(p.inner)})
	if err == nil {
		err = p.file.SetReadDeadline(time.Time{}) // fails if it is not watched
	}
	if err == nil {
		p.raw, err = p.file.SyscallConn()
	}
	if err != nil {
		p.close()
		return nil, err
	}
	p.look = p.begun
	return p, nil
}

// epollOf returns the descriptor of the epoll that watches fd, and all that it watches. gnet does not tell it, but the
// kernel does (proc_pid_fdinfo(5)).
func epollOf(fd int) (epoll int, watched []int, err error) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1, nil, err
	}
	for _, e := range entries {
		if kind, _ := os.Readlink("/proc/self/fd/" + e.Name()); kind != "anon_inode:[eventpoll]" {
			continue
		}
		info, err := os.ReadFile("/proc/self/fdinfo/" + e.Name())
		if err != nil {
			return -1, nil, err
		}
		watched = watched[:0]
		for line := range bytes.Lines(info) {
			if f := bytes.Fields(line); len(f) > 1 && string(f[0]) == "tfd:" {
				if n, err := strconv.Atoi(string(f[1])); err == nil {
					watched = append(watched, n)
				}
			}
		}
		if slices.Contains(watched, fd) {
			epoll, err = strconv.Atoi(e.Name())
			return epoll, watched, err
		}
	}
	return -1, nil, errors.New("/proc names no epoll for it")
}

// stopListening closes gnet's listeners. late gets the connections that the kernel has completed and gnet has not
// accepted. gnet keeps the descriptors' numbers, may have an accept in hand, and ends as a whole if one fails: so each
// number gets a socket at which nothing ever arrives. A listener stays open if there is no descriptor for that.
func (p *parker) stopListening(late func(fd int)) {
	for _, fd := range p.listeners {
		silent, err := silentListener()
		if err != nil {
			continue
		}
		for {
			c, _, err := unix.Accept4(fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			if err != nil {
				break
			}
			late(c)
		}
		_ = unix.Dup3(silent, fd, unix.O_CLOEXEC)
		_ = unix.Close(silent)
	}
	p.listeners = nil
}

// silentListener returns a listening socket without an address that a client could find: the kernel chooses an abstract
// name (unix(7), autobind).
func silentListener() (fd int, err error) {
	fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	if err = unix.Bind(fd, &unix.SockaddrUnix{}); err == nil {
		err = unix.Listen(fd, 0)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func (p *parker) close() { _ = p.file.Close() }

// ready reports whether gnet would find something to do without waiting.
func (p *parker) ready() bool { return readable(p.inner) }

// wait waits until a socket is ready, or wake is called: then it returns false. It may be wrong about either. waited
// is false if a socket was ready already.
func (p *parker) wait() (ready, waited bool) {
	p.looked, p.waited = false, false
	if p.raw.Read(p.look) != nil {
		_ = p.file.SetReadDeadline(time.Time{}) // before anything is looked at that wake may have been called for
		return false, true
	}
	return true, p.waited
}

// yield lets other goroutines run, those included whose sockets have become ready, which Go looks at only when no
// goroutine can run. It is a wait that ends itself.
func (p *parker) yield() (ready bool) {
	p.yields = true
	ready, _ = p.wait()
	p.yields = false
	return ready
}

// hear has what becomes ready noticed by Go's poller, or not.
func (p *parker) hear(on bool) {
	if p.heard == on {
		return
	}
	p.heard = on
	e := unix.EpollEvent{Fd: int32(p.inner)}
	if on {
		e.Events = unix.EPOLLIN
	}
	_ = unix.EpollCtl(p.outer, unix.EPOLL_CTL_MOD, p.inner, &e) // cannot fail: both are there
}

// begun is called when Go's poller will notice what becomes ready from now on, and again when something has.
func (p *parker) begun(uintptr) (ready bool) {
	if p.looked {
		return true
	}
	p.hear(true)
	switch {
	case p.yields:
		p.mark() // not before: it would not be noticed
	default:
		ready = readable(p.inner)
	}
	p.looked, p.waited = true, !ready
	return ready
}

// wake ends the wait that is under way, or the next. Any goroutine may call it.
func (p *parker) wake() { _ = p.file.SetReadDeadline(past) }

var past = time.Unix(1, 0)

// readable asks the kernel without telling Go's scheduler: the call does not wait.
func readable(fd int) bool {
	poll := unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	var now unix.Timespec
	n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&poll)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	return errno == 0 && n > 0
}

// listen has gnet watch the input of a socket that it has, or only its end. gnet does not know, and need not.
func (p *parker) listen(fd int, on bool) bool {
	e := unix.EpollEvent{Fd: int32(fd)}
	if on {
		e.Events = unix.EPOLLIN | unix.EPOLLPRI
	}
	return unix.EpollCtl(p.inner, unix.EPOLL_CTL_MOD, fd, &e) == nil
}
