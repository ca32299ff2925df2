package takeover

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Protocol is the version of the protocol between the two processes. A process refuses a peer that
// speaks another one.
const Protocol = 5

// Bounds of a record.
const (
	maxBody  = 1 << 20 // bytes
	maxFiles = 253     // SCM_MAX_FD of Linux: more descriptors do not fit one message (unix(7))
)

// headLen is the length of a record's head: two bytes of magic, the kind, the number of
// descriptors, and the length of the body (big endian). The descriptors come with the head.
const headLen = 8

// sendWait bounds the wait for a peer that does not read.
const sendWait = 10 * time.Second

// slice is how a wait is measured: by the pieces of it in which this process has run. While it is
// stopped, or gets no CPU, its time does not run out: what has come meanwhile is read.
const slice = time.Second

var magic = [2]byte{'S', 'u'}

// kind is what a record says.
type kind uint8

const (
	kindHello    kind = iota + 1 // both: who I am; the old process begins
	kindSockets                  // old: the listening sockets, in the order of their descriptors
	kindStep                     // new: what it is doing, for people
	kindReady                    // new: I serve, or with Hello.Check: I could
	kindFailed                   // new: I cannot, and why
	kindCommit                   // old: I stop accepting; you are in charge
	kindConns                    // old: connections at rest; the first record may have none
	kindPrepare                  // old: the resources of the next WebSockets
	kindPrepared                 // new: it has subscribed to them
	kindPart                     // old: bytes of the description that kindMove ends
	kindMove                     // old: WebSockets, and the end of their description
	kindMoved                    // new: they are served
	kindKeys                     // old: the keys of TLS of those that kindMove or kindConns brings
	kindHeld                     // new: it has them, and does not use them yet
	kindYours                    // old: go on with them
	kindBack                     // old: the answer to kindMove comes too late, they stay here
	kindEnd                      // the number of kinds
)

var kindNames = [kindEnd]string{kindHello: "hello", kindSockets: "sockets", kindStep: "step", kindReady: "ready", kindFailed: "failed", kindCommit: "commit", kindConns: "connections",
	kindPrepare: "prepare", kindPrepared: "prepared", kindPart: "part", kindMove: "move", kindMoved: "moved", kindKeys: "keys", kindHeld: "held", kindYours: "yours", kindBack: "back"}

func (k kind) String() string {
	if k > 0 && k < kindEnd {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// record is a message between the two processes. The files belong to the receiver.
type record struct {
	kind  kind
	body  []byte
	files []*os.File
}

func (r *record) close() {
	for _, f := range r.files {
		_ = f.Close()
	}
	r.files = nil
}

// errTruncated says that the kernel has dropped descriptors on their way.
var errTruncated = errors.New("descriptors were lost on their way: is the limit of open files (ulimit -n) reached?")

// link is one end of the connection between the two processes. One goroutine may send while another
// receives.
type link struct{ conn *net.UnixConn }

// newLink returns the link of a connected stream socket, which it owns.
func newLink(f *os.File) (*link, error) {
	defer func() { _ = f.Close() }()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		_ = c.Close()
		return nil, fmt.Errorf("a %T is no Unix socket", c)
	}
	return &link{conn: u}, nil
}

func (l *link) close() { _ = l.conn.Close() }

// send sends a record with a body in JSON. The descriptors stay the caller's.
func (l *link) send(k kind, body any, fds ...int) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return l.sendText(k, text, fds...)
}

// sendText sends a record. The descriptors stay the caller's. No copy of the body is left.
func (l *link) sendText(k kind, text []byte, fds ...int) error {
	return l.sendWithin(sendWait, k, text, fds...)
}

// sendWithin is sendText with a bound of its own for the time in which the peer reads nothing. An
// error of the socket closes the link: what follows part of a record would not be understood, and
// the peer must not take it for a whole one.
func (l *link) sendWithin(within time.Duration, k kind, text []byte, fds ...int) error {
	if len(text) > maxBody || len(fds) > maxFiles {
		return fmt.Errorf("a record of %d bytes and %d descriptors is too large", len(text), len(fds))
	}
	b := make([]byte, headLen, headLen+len(text))
	defer func() { clear(b[:cap(b)]) }()
	copy(b, magic[:])
	b[2], b[3] = byte(k), byte(len(fds))
	binary.BigEndian.PutUint32(b[4:], uint32(len(text)))
	b = append(b, text...)
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	err := l.write(b, rights, within)
	if err != nil {
		l.close()
	}
	if errors.Is(err, unix.EPIPE) {
		return errEnded
	}
	return err
}

// write writes b, with descriptors before its first byte.
func (l *link) write(b, rights []byte, within time.Duration) error {
	step := min(slice, within)
	for left := within; ; {
		_ = l.conn.SetWriteDeadline(time.Now().Add(step))
		n, _, err := l.conn.WriteMsgUnix(b, rights, nil)
		if n > 0 {
			b, rights, left = b[n:], nil, within
		}
		switch {
		case len(b) == 0:
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded) && left > 0:
			left -= step
		case err != nil:
			return err
		}
	}
}

// receive returns the next record, of one of the kinds that are due.
func (l *link) receive(within time.Duration, due ...kind) (r record, err error) {
	_ = l.conn.SetReadDeadline(time.Now().Add(within))
	defer func() {
		if err != nil {
			r.close()
			r = record{}
		}
	}()
	var head [headLen]byte
	n, err := l.read(&r, head[:])
	if n > 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		err = l.readRest(&r, head[n:])
	}
	if err != nil {
		return r, err
	}
	r.kind = kind(head[2])
	size := binary.BigEndian.Uint32(head[4:])
	switch {
	case [2]byte(head[:2]) != magic:
		return r, errors.New("the peer speaks another protocol")
	case size > maxBody:
		return r, fmt.Errorf("a record of %d bytes is too large", size)
	case len(r.files) != int(head[3]):
		return r, errTruncated
	}
	r.body = make([]byte, size)
	if err = l.readRest(&r, r.body); err != nil {
		return r, err
	}
	if len(r.files) != int(head[3]) {
		return r, errors.New("descriptors come in the middle of a record")
	}
	for _, k := range due {
		if r.kind == k {
			return r, nil
		}
	}
	return r, fmt.Errorf("the record %q is not due", r.kind)
}

// read fills b, adds the descriptors that come with it to r, and returns how much has come.
func (l *link) read(r *record, b []byte) (got int, err error) {
	oob := make([]byte, unix.CmsgSpace(maxFiles*4))
	for got < len(b) {
		n, m, flags, _, err := l.conn.ReadMsgUnix(b[got:], oob)
		if err := r.add(oob[:m]); err != nil {
			return got, err
		}
		switch {
		case flags&unix.MSG_CTRUNC != 0:
			return got, errTruncated
		case errors.Is(err, io.EOF), errors.Is(err, unix.ECONNRESET): // reset: it has not read everything
			return got, errEnded
		case err != nil:
			return got, err
		}
		got += n
	}
	return got, nil
}

// readRest is read for the rest of a record. If that does not come, the link is closed: what
// follows would not be understood.
func (l *link) readRest(r *record, b []byte) error {
	_ = l.conn.SetReadDeadline(time.Now().Add(sendWait))
	_, err := l.read(r, b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		l.close()
		err = errors.New("a record has come only in part")
	}
	return err
}

// errEnded says that the peer has closed its end.
var errEnded = errors.New("the other process has ended")

// add adds the descriptors of control messages to r.
func (r *record) add(oob []byte) error {
	if len(oob) == 0 {
		return nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return err
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue // not descriptors
		}
		for _, fd := range fds {
			syscall.CloseOnExec(fd)
			r.files = append(r.files, os.NewFile(uintptr(fd), "passed"))
		}
	}
	return nil
}

// decode reads a record's body. Members that this version does not know are refused: what they ask
// for would not be done.
func (r *record) decode(v any) error {
	d := json.NewDecoder(bytes.NewReader(r.body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("the record %q is malformed: %w", r.kind, err)
	}
	return nil
}
