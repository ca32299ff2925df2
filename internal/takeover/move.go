package takeover

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// WebSockets go over in batches. For each the old process sends the resources that the clients
// have, the new one answers when it has subscribed to them, and then the clients follow with their
// descriptors and a description, which only the gateway knows.

// MaxMove is how many WebSockets go over at a time at most.
const MaxMove = maxFiles

const (
	// maxMove bounds a description, in bytes: it has the resources that clients hold.
	maxMove = 1 << 30
	// maxPrepare bounds how many resources a batch has.
	maxPrepare = 1 << 20
	// moveWait bounds the wait for an answer of the new process. It asks services for resources.
	moveWait = 2 * time.Minute
)

// Resource is a resource as a client and as services name it.
type Resource struct{ RID, Name, Query string }

// prepare is the resources of a batch. A record has only part of them, if More is set.
type prepare struct {
	Resources []Resource
	More      bool `json:",omitempty"`
}

// prepared are the numbers of those that cannot be had.
type prepared struct{ Failed []int }

// moved is the answer to a batch.
type moved struct {
	Clients int    // that the new process has so far, of all batches
	Error   string `json:",omitempty"` // why some of this batch were lost
}

// Prepare has the successor subscribe to resources, and returns the numbers of those that it cannot
// have. Move follows, by the same goroutine.
func (s *Successor) Prepare(resources []Resource) (failed []int, err error) {
	if len(resources) > maxPrepare {
		return nil, fmt.Errorf("%d resources are too many for one batch", len(resources))
	}
	s.turn <- struct{}{}
	for first := true; err == nil && (first || len(resources) > 0); first = false {
		n, size := 0, 0
		for n < len(resources) && size < maxBody/8 { // JSON escapes a byte with six at most
			size += len(resources[n].RID) + len(resources[n].Name) + len(resources[n].Query) + 16
			n++
		}
		err = s.link.send(kindPrepare, prepare{resources[:n], n < len(resources)})
		resources = resources[n:]
	}
	<-s.turn
	if err != nil {
		return nil, err
	}
	r, err := s.link.receive(moveWait, kindPrepared)
	if err != nil {
		return nil, err
	}
	var p prepared
	err = r.decode(&p)
	return p.Failed, err
}

// Move sends WebSockets to the successor, with their description and the keys of those with TLS,
// and returns when it serves them. lost says why some of them are not served; err, that the
// successor can have no more.
func (s *Successor) Move(description, keys []byte, fds []int) (lost, err error) {
	if len(description) > maxMove {
		return nil, fmt.Errorf("a description of %d bytes is too large", len(description))
	}
	s.turn <- struct{}{}
	if len(keys) > 0 {
		err = s.link.sendText(kindKeys, keys)
	}
	for err == nil && len(description) > maxBody {
		err = s.link.sendText(kindPart, description[:maxBody])
		description = description[maxBody:]
	}
	if err == nil {
		err = s.link.sendText(kindMove, description, fds...)
	}
	<-s.turn
	if err != nil {
		return nil, err
	}
	r, err := s.link.receive(moveWait, kindMoved)
	if err != nil {
		return nil, err
	}
	var m moved
	if err = r.decode(&m); err == nil && m.Error != "" {
		lost = errors.New(m.Error)
	}
	return lost, err
}

// Taker goes on with what comes from the old process. Its methods are called one after the other.
type Taker interface {
	// Conn goes on with a connection at rest. The descriptor is its own.
	Conn(Conn)
	// Prepare subscribes to resources and calls done, once, on any goroutine, with the numbers of
	// those that it cannot have.
	Prepare(resources []Resource, done func(failed []int))
	// Move goes on with WebSockets, and returns why some are lost, and how many it has got so far.
	// The descriptors are its own. The keys are overwritten afterwards.
	Move(description, keys []byte, fds []int) (clients int, err error)
}

// batch is what has come of a batch so far.
type batch struct {
	resources []Resource
	text      []byte
	keys      []byte
}

// wipe overwrites the keys.
func (b *batch) wipe() {
	clear(b.keys)
	b.keys = nil
}

// handle passes a record to the Taker, and answers it.
func (b *batch) handle(l *link, r *record, to Taker) error {
	defer r.close()
	if len(r.files) > 0 && r.kind != kindConns && r.kind != kindMove {
		return fmt.Errorf("the record %q has descriptors", r.kind)
	}
	switch r.kind {
	case kindConns:
		return r.conns(to.Conn)
	case kindPrepare:
		var p prepare
		if err := r.decode(&p); err != nil {
			return err
		}
		if b.resources = append(b.resources, p.Resources...); len(b.resources) > maxPrepare {
			return errors.New("a batch has too many resources")
		}
		if p.More {
			return nil
		}
		all := b.resources
		b.resources = nil
		to.Prepare(all, func(failed []int) {
			go func() { _ = l.send(kindPrepared, prepared{failed}) }() // an owner must not wait for the link
		})
	case kindPart:
		if len(b.text)+len(r.body) > maxMove {
			return errors.New("a description is too large")
		}
		b.text = append(b.text, r.body...)
	case kindKeys:
		if b.keys != nil {
			clear(r.body)
			return errors.New("the keys of a batch come twice")
		}
		b.keys = r.body
	case kindMove:
		text := append(b.text, r.body...)
		b.text = nil
		defer b.wipe()
		fds, err := r.take()
		if err != nil {
			return err
		}
		var answer moved
		if answer.Clients, err = to.Move(text, b.keys, fds); err != nil {
			answer.Error = err.Error()
		}
		return l.send(kindMoved, answer)
	}
	return nil
}

// take returns duplicates of a record's descriptors: a file closes its own when it is collected.
func (r *record) take() (fds []int, err error) {
	for _, f := range r.files {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			for _, fd := range fds {
				_ = unix.Close(fd)
			}
			return nil, fmt.Errorf("connections are lost: %w", err)
		}
		fds = append(fds, fd)
	}
	return fds, nil
}
