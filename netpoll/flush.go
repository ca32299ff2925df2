package netpoll

import (
	"golang.org/x/sys/unix"
)

// flusher writes what the connections of a batch have queued, as far as their sockets take it, and tells
// each by wrote or doom. It is called on the loop and must not block.
type flusher interface {
	flush(l *Loop, batch []*Conn)
}

const (
	vectorLen = 64       // slices in one writev
	smallCopy = 16 << 10 // bytes up to which several slices are copied into one write
)

// writer is a flusher that makes one write or writev call per connection.
type writer struct {
	bufs    [vectorLen][]byte
	vector  [vectorLen]unix.Iovec
	scratch [smallCopy]byte
}

func (w *writer) flush(_ *Loop, batch []*Conn) {
	for _, c := range batch {
		if c.link() != nil {
			c.flushTLS()
			continue
		}
		// More than one round only if there are more slices than a vector holds.
		for c.queued > 0 && c.state < stateDoomed {
			bufs := c.gather(w.bufs[:0])
			size := 0
			for _, b := range bufs {
				size += len(b)
			}
			n, err := w.write(int(c.fd), bufs, size)
			clear(bufs)
			if err == unix.EINTR {
				continue
			}
			if err != nil && err != unix.EAGAIN {
				c.doom()
				break
			}
			if n > 0 && c.Lagging() {
				c.hear() // it reads, if slowly
			}
			c.wrote(n, n < size)
			if n < size {
				break
			}
		}
	}
}

// write returns how many bytes the socket took.
func (w *writer) write(fd int, bufs [][]byte, size int) (n int, err error) {
	switch {
	case len(bufs) == 1:
		n, err = write(fd, bufs[0])
	case size <= len(w.scratch):
		all := w.scratch[:0]
		for _, b := range bufs {
			all = append(all, b...)
		}
		n, err = write(fd, all)
	default:
		n, err = writev(fd, bufs, w.vector[:])
	}
	return max(n, 0), err
}
