package uring

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The kernel's interface, from linux/io_uring.h: x/sys has only the numbers of the system calls.
const (
	opSend = 26

	// Flags of io_uring_setup.
	setupSubmitAll   = 1 << 7  // a send that cannot begin does not end the submission
	setupCoopTaskrun = 1 << 8  // completions interrupt no thread
	setupNoSQArray   = 1 << 16 // sends are taken in the order of their slots

	featSingleMmap = 1 << 0 // both queues are in one mapping

	enterGetEvents = 1 << 0 // io_uring_enter waits for completions

	// Offsets for mmap.
	offRings = 0
	offSlots = 0x10000000
)

type (
	// Params is io_uring_params: what is asked of io_uring_setup, and where it put things.
	Params struct {
		SQEntries, CQEntries, Flags, SQThreadCPU, SQThreadIdle, Features, WQFD uint32
		_                                                                      [3]uint32
		SQ                                                                     SQOffsets
		CQ                                                                     CQOffsets
	}

	// SQOffsets says where the words of the submission queue are in the mapping at offset 0.
	SQOffsets struct {
		Head, Tail, Mask, Entries, Flags, Dropped, Array, _ uint32
		_                                                   uint64
	}

	// CQOffsets says where the words and events of the completion queue are in the mapping at
	// offset 0.
	CQOffsets struct {
		Head, Tail, Mask, Entries, Overflow, Events, Flags, _ uint32
		_                                                     uint64
	}

	// submission is io_uring_sqe, filled in for a send.
	submission struct {
		opcode, flags uint8
		priority      uint16
		fd            int32
		_             uint64
		addr          uint64
		size          uint32
		sendFlags     uint32
		user          uint64 // returned with the result
		_             [3]uint64
	}

	// completion is io_uring_cqe.
	completion struct {
		user   uint64
		result int32 // bytes sent, or an error number below zero
		_      uint32
	}
)

// Ring sends on many sockets with one system call. A send never waits, so its result is there when
// the call returns. One goroutine at a time uses it, on any thread.
type Ring struct {
	calls  Calls
	fd     int
	rings  []byte // the words that are shared with the kernel, and the results
	slots  []byte
	sends  []submission // in slots
	events []completion // in rings
	mask   uint32       // of sends
	around uint32       // the mask of events
	tail   uint32       // of the sends, as we know it
	head   uint32       // of the results, as we know it

	sqHead, sqTail, cqHead, cqTail *uint32 // in rings
}

// Calls are the system calls. Tests replace them to act as an old kernel, or a sandbox that denies
// them.
type Calls struct {
	Setup func(entries uint32, p *Params) (fd int, errno unix.Errno)
	Enter func(fd int, submit, wait, flags uint32) (int, unix.Errno)
}

// Kernel are the real system calls.
var Kernel = Calls{
	Setup: func(entries uint32, p *Params) (int, unix.Errno) {
		fd, _, errno := unix.RawSyscall(unix.SYS_IO_URING_SETUP, uintptr(entries), uintptr(unsafe.Pointer(p)), 0)
		return int(fd), errno
	},
	Enter: func(fd int, submit, wait, flags uint32) (int, unix.Errno) {
		call := unix.RawSyscall6 // bypasses Go's scheduler, as netpoll's write does: its monitor would take the loop's processor
		if wait > 0 {
			call = unix.Syscall6
		}
		n, _, errno := call(unix.SYS_IO_URING_ENTER, uintptr(fd), uintptr(submit), uintptr(wait), uintptr(flags), 0, 0)
		return int(n), errno
	},
}

// New returns a ring for entries sends per system call, a power of two. Probe must say that the
// kernel lets it be used.
func New(entries uint32, calls Calls) (*Ring, error) {
	var p Params
	var fd int
	var errno unix.Errno
	// Older kernels refuse flags that they do not know with EINVAL. None is needed.
	for _, flags := range []uint32{setupSubmitAll | setupCoopTaskrun | setupNoSQArray, setupSubmitAll | setupCoopTaskrun, setupSubmitAll, 0} {
		p = Params{Flags: flags}
		if fd, errno = calls.Setup(entries, &p); errno != unix.EINVAL {
			break
		}
	}
	if errno != 0 {
		return nil, os.NewSyscallError("io_uring_setup", errno)
	}
	r := &Ring{fd: fd, calls: calls}
	if err := r.mmap(&p); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

func (r *Ring) mmap(p *Params) (err error) {
	if p.Features&featSingleMmap == 0 {
		return errors.New("io_uring_setup: the kernel is older than 5.4")
	}
	size := max(p.SQ.Array+4*p.SQEntries, p.CQ.Events+uint32(unsafe.Sizeof(completion{}))*p.CQEntries)
	if r.rings, err = unix.Mmap(r.fd, offRings, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
		return os.NewSyscallError("mmap", err)
	}
	if r.slots, err = unix.Mmap(r.fd, offSlots, int(unsafe.Sizeof(submission{}))*int(p.SQEntries), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
		return os.NewSyscallError("mmap", err)
	}
	word := func(off uint32) *uint32 { return (*uint32)(unsafe.Pointer(&r.rings[off])) }
	r.sqHead, r.sqTail, r.cqHead, r.cqTail = word(p.SQ.Head), word(p.SQ.Tail), word(p.CQ.Head), word(p.CQ.Tail)
	r.sends = unsafe.Slice((*submission)(unsafe.Pointer(&r.slots[0])), p.SQEntries)
	r.events = unsafe.Slice((*completion)(unsafe.Pointer(&r.rings[p.CQ.Events])), p.CQEntries)
	r.mask, r.around = p.SQEntries-1, p.CQEntries-1
	for i := range r.sends {
		// All that never changes; the kernel only reads it.
		r.sends[i] = submission{opcode: opSend, sendFlags: unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL, user: uint64(i)}
	}
	if p.Flags&setupNoSQArray == 0 {
		for i := range p.SQEntries {
			*word(p.SQ.Array + 4*i) = i
		}
	}
	return nil
}

// Close frees the ring. No send may be in flight.
func (r *Ring) Close() {
	if r.slots != nil {
		_ = unix.Munmap(r.slots)
	}
	if r.rings != nil {
		_ = unix.Munmap(r.rings)
	}
	_ = unix.Close(r.fd)
}

// Cap returns how many sends fit in one Submit.
func (r *Ring) Cap() int { return len(r.sends) }

// Add queues a send and returns its slot; slots are used in turn. The caller keeps b alive and
// unchanged until it has taken the result. b must not be on a stack, which moves. There is room for
// Cap sends.
func (r *Ring) Add(fd int32, b []byte) (slot uint32) {
	slot = r.tail & r.mask
	s := &r.sends[slot]
	s.fd, s.addr, s.size = fd, uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))), uint32(len(b))
	r.tail++
	return slot
}

// Submit has the kernel do the queued sends. Each that it took has a result, which Next must take
// before the next Submit. left is how many it did not take, the last of those queued; they are
// removed from the queue. err says why.
func (r *Ring) Submit() (left uint32, err error) {
	atomic.StoreUint32(r.sqTail, r.tail)
	for {
		left = r.tail - atomic.LoadUint32(r.sqHead)
		if left == 0 {
			return 0, nil
		}
		n, errno := r.calls.Enter(r.fd, left, 0, 0)
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

// Next takes the next result: bytes sent, or a negative errno. One must be due. It waits if the
// kernel has not completed the send yet, which Probe has ruled out. After an error the ring is
// unusable.
func (r *Ring) Next() (slot uint32, result int32, err error) {
	for r.head == atomic.LoadUint32(r.cqTail) {
		if _, errno := r.calls.Enter(r.fd, 0, 1, enterGetEvents); errno != 0 && errno != unix.EINTR {
			return 0, 0, os.NewSyscallError("io_uring_enter", errno)
		}
	}
	e := &r.events[r.head&r.around]
	r.head++
	return uint32(e.user), e.result, nil
}

// Taken lets the kernel overwrite the results that Next took. It returns how many are still due.
func (r *Ring) Taken() (due uint32) {
	atomic.StoreUint32(r.cqHead, r.head)
	return r.tail - r.head
}

var probeByte = []byte{0}

// Probe sends on a socket and on one that is full, and checks that both results are there
// immediately. A sandbox may allow a ring but not its use; old kernels wait until a full socket has
// room.
func (r *Ring) Probe() error {
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
	r.Add(int32(free[0]), probeByte)
	r.Add(int32(full[0]), probeByte)
	if _, err := r.Submit(); err != nil {
		return err
	}
	if atomic.LoadUint32(r.cqTail)-r.head != uint32(len(want)) {
		return errors.New("the kernel does not send at once")
	}
	for range want {
		slot, result, err := r.Next()
		if err != nil {
			return err
		}
		if result != want[slot] {
			return fmt.Errorf("a send resulted in %d, not %d", result, want[slot])
		}
	}
	r.Taken()
	return nil
}
