package park

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

// HoldsProcessor reports whether a waiting loop holds a processor of Go's scheduler. There should
// then be one more of them than loops.
const HoldsProcessor = false

// Parker waits for the sockets of an event loop in Go's scheduler. The inner epoll is gnet's: it is
// readable while one of its descriptors is ready. The outer epoll watches the inner one, and Go's
// netpoller watches the outer one. The outer epoll can be told to ignore the inner one (Notice).
// Otherwise input that arrives while the loop runs would wake an idle thread for nothing. The loop
// calls all methods; any goroutine may call Wake.
type Parker struct {
	inner    int      // gnet's epoll
	outer    int      // ours
	file     *os.File // owns outer
	raw      syscall.RawConn
	selfWake func()                // makes inner readable
	check    func(fd uintptr) bool // begun, for raw.Read

	listeners []int // gnet's, watched by inner; until StopListening
	all       []int // the same numbers, always
	tasks     int   // the eventfd that wakes gnet for its tasks; watched by inner

	events [128]unix.EpollEvent // of Events

	noticed bool // outer watches inner
	checked bool // inner was checked since Wait began
	waited  bool // inner was not ready when Wait began
	yields  bool // Wait is a Yield: selfWake makes inner ready
}

// New returns the parker of the event loop whose epoll watches fd. selfWake must make fd readable.
func New(fd int, selfWake func()) (*Parker, error) {
	p := &Parker{selfWake: selfWake, noticed: true}
	var err error
	var watched []int
	if p.inner, watched, err = epollOf(fd); err != nil {
		return nil, err
	}
	p.tasks = -1
	for _, fd := range watched {
		if kind, _ := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd)); kind == "anon_inode:[eventfd]" {
			p.tasks = fd
		}
		if is, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err == nil && is != 0 {
			p.listeners = append(p.listeners, fd)
		}
	}
	if p.tasks < 0 {
		return nil, errors.New("/proc names no eventfd of it")
	}
	p.all = slices.Clone(p.listeners)
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
		p.Close()
		return nil, err
	}
	p.check = p.begun
	return p, nil
}

// epollOf returns the descriptor of the epoll that watches fd, and all descriptors that it watches.
// gnet does not export them; the kernel does (proc_pid_fdinfo(5)).
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

// Listeners returns the descriptors on which gnet listens, or has listened. Any goroutine may call
// it.
func (p *Parker) Listeners() []int { return p.all }

// StopListening closes gnet's listeners. late receives the connections that the kernel has
// completed and gnet has not accepted; nil: they are left to another process with the same sockets.
// gnet keeps the descriptors' numbers, may be about to accept, and ends as a whole if an accept
// fails. So each number gets a socket at which nothing ever arrives. A listener stays open if no
// descriptor is free for that.
func (p *Parker) StopListening(late func(fd int)) {
	for _, fd := range p.listeners {
		silent, err := silentListener()
		if err != nil {
			continue
		}
		for late != nil {
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

// silentListener returns a listening socket without an address that a client could find: the kernel
// chooses an abstract name (unix(7), autobind).
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

// Close frees the parker. No Wait may be in progress.
func (p *Parker) Close() { _ = p.file.Close() }

// Ready reports whether a socket of gnet is ready.
func (p *Parker) Ready() bool { return readable(p.inner) }

// Events returns descriptors of gnet's that are ready, as many as fit, and what they are ready for.
// gnet finds the same ones ready until they are not. The slice is valid until the next call.
func (p *Parker) Events() []unix.EpollEvent {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.inner), uintptr(unsafe.Pointer(&p.events)), uintptr(len(p.events)), 0, 0, 0)
	if errno != 0 {
		return nil
	}
	for _, e := range p.events[:n] {
		if int(e.Fd) == p.tasks { // which gnet watches edge-triggered: this call has taken its event
			e := unix.EpollEvent{Fd: e.Fd, Events: unix.EPOLLIN | unix.EPOLLPRI | unix.EPOLLET | unix.EPOLLRDHUP}
			_ = unix.EpollCtl(p.inner, unix.EPOLL_CTL_MOD, p.tasks, &e)
		}
	}
	return p.events[:n]
}

// Wait returns true when a socket is ready, and false when Wake was called. Both may be spurious.
// waited is false if a socket was ready already.
func (p *Parker) Wait() (ready, waited bool) {
	p.checked, p.waited = false, false
	if p.raw.Read(p.check) != nil {
		_ = p.file.SetReadDeadline(time.Time{}) // before the caller reads what Wake was called for
		return false, true
	}
	return true, p.waited
}

// Yield lets other goroutines run, also those whose sockets have become ready: Go polls these only
// when no goroutine can run. It is a Wait that ends itself.
func (p *Parker) Yield() (ready bool) {
	p.yields = true
	ready, _ = p.Wait()
	p.yields = false
	return ready
}

// Notice has Go's netpoller notice sockets that become ready, or ignore them.
func (p *Parker) Notice(on bool) {
	if p.noticed == on {
		return
	}
	p.noticed = on
	e := unix.EpollEvent{Fd: int32(p.inner)}
	if on {
		e.Events = unix.EPOLLIN
	}
	_ = unix.EpollCtl(p.outer, unix.EPOLL_CTL_MOD, p.inner, &e) // cannot fail: both are there
}

// begun is called when Go's netpoller notices sockets from now on, and again when one has become
// ready.
func (p *Parker) begun(uintptr) (ready bool) {
	if p.checked {
		return true
	}
	p.Notice(true)
	switch {
	case p.yields:
		p.selfWake() // not before: it would not be noticed
	default:
		ready = readable(p.inner)
	}
	p.checked, p.waited = true, !ready
	return ready
}

// Wake ends the Wait in progress, or the next one. Any goroutine may call it.
func (p *Parker) Wake() { _ = p.file.SetReadDeadline(past) }

var past = time.Unix(1, 0)

// readable reports whether fd is readable. The call bypasses Go's scheduler, because it never
// waits.
func readable(fd int) bool {
	poll := unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	var now unix.Timespec
	n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&poll)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	return errno == 0 && n > 0
}

// Accept has gnet's epoll watch its listeners, or ignore them. It reports whether there are any.
func (p *Parker) Accept(on bool) (done bool) {
	for _, fd := range p.listeners {
		done = p.Watch(fd, on) || done
	}
	return done
}

// Watch has gnet's epoll watch the input of one of its sockets, or only its end. gnet does not
// learn of it.
func (p *Parker) Watch(fd int, on bool) bool {
	e := unix.EpollEvent{Fd: int32(fd)}
	if on {
		e.Events = unix.EPOLLIN | unix.EPOLLPRI
	}
	return unix.EpollCtl(p.inner, unix.EPOLL_CTL_MOD, fd, &e) == nil
}
