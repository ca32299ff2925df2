package netpoll

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The kernel's interface, from linux/io_uring.h: x/sys has the numbers of the system calls only.
const (
	uringOpSend = 26

	// Of io_uring_setup.
	uringSubmitAll  = 1 << 7  // a send that cannot be begun does not end the submission
	uringCoop       = 1 << 8  // results interrupt nobody
	uringNoSQArray  = 1 << 16 // sends are taken in the order of their slots
	uringSingleMmap = 1 << 0  // a feature: both rings are one mapping

	uringGetEvents = 1 << 0 // of io_uring_enter

	// Of mmap.
	uringOffRings = 0
	uringOffSlots = 0x10000000
)

type (
	uringParams struct {
		sqEntries, cqEntries, flags, sqThreadCPU, sqThreadIdle, features, wqFD uint32
		_                                                                      [3]uint32
		sq                                                                     struct {
			head, tail, mask, entries, flags, dropped, array, _ uint32
			_                                                   uint64
		}
		cq struct {
			head, tail, mask, entries, overflow, events, flags, _ uint32
			_                                                     uint64
		}
	}

	// uringSend is a submission, filled in for a send.
	uringSend struct {
		opcode, flags uint8
		priority      uint16
		fd            int32
		_             uint64
		addr          uint64
		size          uint32
		sendFlags     uint32
		user          uint64 // comes back with the result
		_             [3]uint64
	}

	// uringEvent is a completion.
	uringEvent struct {
		user   uint64
		result int32 // bytes sent, or an error number below zero
		_      uint32
	}
)

// uring sends on many sockets with one system call. A send never waits, so its result is there when the call
// returns. It is used by one goroutine at a time, from whatever thread.
type uring struct {
	calls  uringCalls
	fd     int
	rings  []byte // the words that are shared with the kernel, and the results
	slots  []byte
	sends  []uringSend  // in slots
	events []uringEvent // in rings
	mask   uint32       // of sends
	around uint32       // the mask of events
	tail   uint32       // of the sends, as we know it
	head   uint32       // of the results, as we know it

	sqHead, sqTail, cqHead, cqTail *uint32 // in rings
}

// uringCalls are the system calls. Tests replace them to be a kernel or a sandbox that refuses.
type uringCalls struct {
	setup func(entries uint32, p *uringParams) (fd int, errno unix.Errno)
	enter func(fd int, submit, wait, flags uint32) (int, unix.Errno)
}

var kernelURing = uringCalls{
	setup: func(entries uint32, p *uringParams) (int, unix.Errno) {
		fd, _, errno := unix.RawSyscall(unix.SYS_IO_URING_SETUP, uintptr(entries), uintptr(unsafe.Pointer(p)), 0)
		return int(fd), errno
	},
	enter: func(fd int, submit, wait, flags uint32) (int, unix.Errno) {
		call := unix.RawSyscall6 // the scheduler is not told, as by write: its monitor would take the loop's processor
		if wait > 0 {
			call = unix.Syscall6
		}
		n, _, errno := call(unix.SYS_IO_URING_ENTER, uintptr(fd), uintptr(submit), uintptr(wait), uintptr(flags), 0, 0)
		return int(n), errno
	},
}

// newURing returns a ring for entries sends at a time, a power of two.
func newURing(entries uint32, calls uringCalls) (*uring, error) {
	var p uringParams
	var fd int
	var errno unix.Errno
	// Older kernels refuse flags that they do not know with EINVAL. None is needed.
	for _, flags := range []uint32{uringSubmitAll | uringCoop | uringNoSQArray, uringSubmitAll | uringCoop, uringSubmitAll, 0} {
		p = uringParams{flags: flags}
		if fd, errno = calls.setup(entries, &p); errno != unix.EINVAL {
			break
		}
	}
	if errno != 0 {
		return nil, os.NewSyscallError("io_uring_setup", errno)
	}
	r := &uring{fd: fd, calls: calls}
	if err := r.mmap(&p); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

func (r *uring) mmap(p *uringParams) (err error) {
	if p.features&uringSingleMmap == 0 {
		return errors.New("io_uring_setup: the kernel is older than 5.4")
	}
	size := max(p.sq.array+4*p.sqEntries, p.cq.events+uint32(unsafe.Sizeof(uringEvent{}))*p.cqEntries)
	if r.rings, err = unix.Mmap(r.fd, uringOffRings, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
		return os.NewSyscallError("mmap", err)
	}
	if r.slots, err = unix.Mmap(r.fd, uringOffSlots, int(unsafe.Sizeof(uringSend{}))*int(p.sqEntries), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
		return os.NewSyscallError("mmap", err)
	}
	word := func(off uint32) *uint32 { return (*uint32)(unsafe.Pointer(&r.rings[off])) }
	r.sqHead, r.sqTail, r.cqHead, r.cqTail = word(p.sq.head), word(p.sq.tail), word(p.cq.head), word(p.cq.tail)
	r.sends = unsafe.Slice((*uringSend)(unsafe.Pointer(&r.slots[0])), p.sqEntries)
	r.events = unsafe.Slice((*uringEvent)(unsafe.Pointer(&r.rings[p.cq.events])), p.cqEntries)
	r.mask, r.around = p.sqEntries-1, p.cqEntries-1
	for i := range r.sends {
		// All that never changes; the kernel only reads it.
		r.sends[i] = uringSend{opcode: uringOpSend, sendFlags: unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL, user: uint64(i)}
	}
	if p.flags&uringNoSQArray == 0 {
		for i := range p.sqEntries {
			*word(p.sq.array + 4*i) = i
		}
	}
	return nil
}

// close frees the ring. Nothing is under way.
func (r *uring) close() {
	if r.slots != nil {
		_ = unix.Munmap(r.slots)
	}
	if r.rings != nil {
		_ = unix.Munmap(r.rings)
	}
	_ = unix.Close(r.fd)
}

// add queues a send and returns its slot. b must stay where and as it is until the result is taken: on a stack, which
// moves, it must not be, and somebody must refer to it. There is room for len(r.sends).
func (r *uring) add(fd int32, b []byte) (slot uint32) {
	slot = r.tail & r.mask
	s := &r.sends[slot]
	s.fd, s.addr, s.size = fd, uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))), uint32(len(b))
	r.tail++
	return slot
}

// submit has the kernel do the sends that are queued. Each that it took has a result, which next must take before
// the next submit. left is how many it did not take, the last of those queued; they are queued no more. err says why.
func (r *uring) submit() (left uint32, err error) {
	atomic.StoreUint32(r.sqTail, r.tail)
	for {
		left = r.tail - atomic.LoadUint32(r.sqHead)
		if left == 0 {
			return 0, nil
		}
		n, errno := r.calls.enter(r.fd, left, 0, 0)
		if errno == unix.EINTR || errno == 0 && n > 0 {
			continue
		}
		if errno != 0 {
			err = os.NewSyscallError("io_uring_enter", errno)
		}
		left = r.tail - atomic.LoadUint32(r.sqHead)
		r.tail -= left
		atomic.StoreUint32(r.sqTail, r.tail)
		return left, err
	}
}

// next takes the next result: bytes sent, or an error number below zero. One must be due. It waits for it if the
// kernel took its time, which the probe has ruled out. After an error the ring is of no use any more.
func (r *uring) next() (slot uint32, result int32, err error) {
	for r.head == atomic.LoadUint32(r.cqTail) {
		if _, errno := r.calls.enter(r.fd, 0, 1, uringGetEvents); errno != 0 && errno != unix.EINTR {
			return 0, 0, os.NewSyscallError("io_uring_enter", errno)
		}
	}
	e := &r.events[r.head&r.around]
	r.head++
	return uint32(e.user), e.result, nil
}

// taken lets the kernel overwrite the results that were taken. It returns how many are still due.
func (r *uring) taken() (due uint32) {
	atomic.StoreUint32(r.cqHead, r.head)
	return r.tail - r.head
}

var probeByte = []byte{0}

// probe sends on a socket and on one that is full, to see that both have their results at once. A sandbox may allow a ring and
// not its use; old kernels wait until a full socket has room.
func (r *uring) probe() error {
	var free, full [2]int
	for _, pair := range []*[2]int{&free, &full} {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return os.NewSyscallError("socketpair", err)
		}
		*pair = fds
		defer unix.Close(fds[0])
		defer unix.Close(fds[1])
	}
	b := make([]byte, 32<<10)
	for {
		if _, err := unix.Write(full[0], b); err == unix.EAGAIN {
			break
		} else if err != nil && err != unix.EINTR {
			return os.NewSyscallError("write", err)
		}
	}
	want := [...]int32{1, -int32(unix.EAGAIN)}
	r.add(int32(free[0]), probeByte)
	r.add(int32(full[0]), probeByte)
	if _, err := r.submit(); err != nil {
		return err
	}
	if atomic.LoadUint32(r.cqTail)-r.head != uint32(len(want)) {
		return errors.New("the kernel does not send at once")
	}
	for range want {
		slot, result, err := r.next()
		if err != nil {
			return err
		}
		if result != want[slot] {
			return fmt.Errorf("a send resulted in %d, not %d", result, want[slot])
		}
	}
	r.taken()
	return nil
}
