package takeover

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// WebSockets go over in batches. For each the old process sends the resources that the clients
// have, the new one answers when it has subscribed to them, and then the clients follow with their
// descriptors and a description, which only the gateway knows.
//
// Two processes have the sockets then, and one may use them. The new one answers that it holds the
// batch, and does not touch a socket before it is told that the batch is its own. Until the old one
// has said that, the clients are its: whatever goes wrong, it takes them back, and closes the link.
// So a process that has hung and goes on again finds the link's end instead of that record, and
// drops what it holds. If it only takes too long to answer, it is told that the batch has gone
// back, and the next one waits for its answer: a process that gets little CPU is slow, and not
// lost.

// MaxMove is how many WebSockets go over at a time at most.
const MaxMove = maxFiles

const (
	// maxMove bounds a description, in bytes: it has the resources that clients hold.
	maxMove = 1 << 30
	// maxPrepare bounds how many resources a batch has.
	maxPrepare = 1 << 20
	// moveWait bounds the wait for the resources of a batch, for the clients to be served that are
	// the new process's, and for an answer that comes too late. All other clients are served by
	// this process meanwhile.
	moveWait = 2 * time.Minute
	// holdWait is how long the clients of a batch pause for an answer, which doubles with each that
	// comes too late, up to longestHold.
	holdWait    = 10 * time.Second
	longestHold = time.Minute
	// endWait is how long the end of a process may take after that of its link: it has thousands of
	// sockets to close, and may get little CPU.
	endWait = 10 * time.Second
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

// held is the answer to a batch.
type held struct {
	Error string `json:",omitempty"` // why it cannot be gone on with: it stays with the old process
}

// moved says that a batch is served.
type moved struct {
	Clients int    // that the new process has so far, of all batches
	Error   string `json:",omitempty"` // why some of this batch were lost
}

// Prepare has the successor subscribe to resources, and returns the numbers of those that it cannot
// have. Before that it waits for an answer that Offer has not got. Offer follows, by the same
// goroutine. The end of ctx ends the waits.
func (s *Successor) Prepare(ctx context.Context, resources []Resource) (failed []int, err error) {
	if len(resources) > maxPrepare {
		return nil, fmt.Errorf("%d resources are too many for one batch", len(resources))
	}
	if s.owes {
		if err := s.held(ctx, s.goesOn); err != nil {
			return nil, err
		}
		s.owes = false
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
	r, err := s.link.answer(ctx, s.goesOn, kindPrepared)
	if err != nil {
		return nil, err
	}
	var p prepared
	err = r.decode(&p)
	return p.Failed, err
}

// answer receives what the successor has to say next. Only the time counts in which this process
// runs (see slice). After os.ErrDeadlineExceeded the answer may still come.
func (l *link) answer(ctx context.Context, within time.Duration, due kind) (record, error) {
	step := min(slice, within)
	for left := within; ; left -= step {
		r, err := l.receive(step, due)
		switch {
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return r, err
		case ctx.Err() != nil:
			return r, ctx.Err()
		case left <= 0:
			return r, fmt.Errorf("the new process does not answer: %w", err)
		}
	}
}

// held waits until the successor says that it holds a batch, or why it does not.
func (s *Successor) held(ctx context.Context, within time.Duration) error {
	r, err := s.link.answer(ctx, within, kindHeld)
	if err != nil {
		return err
	}
	var h held
	if err = r.decode(&h); err == nil && h.Error != "" {
		err = errors.New(h.Error)
	}
	return err
}

// Offer sends WebSockets to the successor, with their description and the keys of those with TLS,
// and returns true when it holds them; Hand follows. If it does not answer in time, false: they are
// this process's as before, and may be offered again after the next Prepare. After an error they
// are so, too, and the successor can have no more.
func (s *Successor) Offer(description, keys []byte, fds []int) (holds bool, err error) {
	if len(description) > maxMove {
		return false, fmt.Errorf("a description of %d bytes is too large", len(description))
	}
	defer func() {
		if err != nil {
			s.link.close()
		}
	}()
	err = s.inTurn(func() (err error) {
		if len(keys) > 0 {
			err = s.link.sendWithin(s.holds, kindKeys, keys)
		}
		for err == nil && len(description) > maxBody {
			err = s.link.sendWithin(s.holds, kindPart, description[:maxBody])
			description = description[maxBody:]
		}
		if err == nil {
			err = s.link.sendWithin(s.holds, kindMove, description, fds...)
		}
		return err
	})
	if err != nil {
		return false, err
	}
	err = s.held(context.Background(), s.holds)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		s.owes, s.holds = true, min(2*s.holds, longestHold)
		return false, s.inTurn(func() error { return s.link.send(kindBack, struct{}{}) })
	}
	return err == nil, err
}

// inTurn calls send, which sends records that stay together.
func (s *Successor) inTurn(send func() error) error {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	return send()
}

// Hand tells the successor that the WebSockets of Offer are its own. After an error they are this
// process's, and the successor can have no more. Otherwise this process does not use them any more,
// unless the successor has Ended, and Served follows.
func (s *Successor) Hand() error {
	return s.inTurn(func() error { return s.link.send(kindYours, struct{}{}) }) // it closes the link if it fails
}

// Served waits until the successor serves the WebSockets of Hand, or ctx ends. lost says why some
// of them are not served; err, that the successor can have no more.
func (s *Successor) Served(ctx context.Context) (lost, err error) {
	r, err := s.link.answer(ctx, s.goesOn, kindMoved)
	if err != nil {
		s.link.close()
		return nil, err
	}
	var m moved
	if err = r.decode(&m); err == nil && m.Error != "" {
		lost = errors.New(m.Error)
	}
	return lost, err
}

// Ended reports, after an error, whether the successor has ended: then it uses no descriptor any
// more.
func (s *Successor) Ended() bool {
	select {
	case <-s.ended:
		return true
	case <-time.After(endWait):
		return false
	}
}

// Taker goes on with what comes from the old process. Its methods are called one after the other.
type Taker interface {
	// Conn goes on with a connection at rest. The descriptor is its own. The keys are overwritten
	// afterwards.
	Conn(Conn)
	// Prepare subscribes to resources and calls done, once, on any goroutine, with the numbers of
	// those that it cannot have.
	Prepare(resources []Resource, done func(failed []int))
	// Hold keeps WebSockets, whose descriptors are its own, without any use of them, or returns why
	// it cannot go on with them; then it has closed the descriptors. The keys are overwritten
	// afterwards. Serve or Drop follows.
	Hold(description, keys []byte, fds []int) error
	// Serve goes on with the WebSockets of Hold, and returns why some are lost, and how many it has
	// got so far.
	Serve() (clients int, err error)
	// Drop closes the descriptors of Hold: another process goes on with the WebSockets.
	Drop()
}

// batch is what has come of a batch so far.
type batch struct {
	resources []Resource
	text      []byte
	keys      []byte
	held      bool // the Taker has a batch that is not its own yet
}

// wipe overwrites the keys.
func (b *batch) wipe() {
	clear(b.keys)
	b.keys = nil
}

// end is called when no more records come.
func (b *batch) end(to Taker) {
	b.wipe()
	if b.held {
		b.held = false
		to.Drop()
	}
}

// handle passes a record to the Taker, and answers it.
func (b *batch) handle(l *link, r *record, to Taker) error {
	defer r.close()
	if len(r.files) > 0 && r.kind != kindConns && r.kind != kindMove {
		return fmt.Errorf("the record %q has descriptors", r.kind)
	}
	if b.held && r.kind != kindKeys && r.kind != kindConns && r.kind != kindYours && r.kind != kindBack || !b.held && r.kind == kindYours {
		return fmt.Errorf("the record %q is not due", r.kind)
	}
	switch r.kind {
	case kindConns:
		defer b.wipe()
		return r.conns(b.keys, to.Conn)
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
		if err == nil {
			err = to.Hold(text, b.keys, fds)
		}
		if err != nil {
			return l.send(kindHeld, held{err.Error()})
		}
		b.held = true
		return l.send(kindHeld, held{})
	case kindYours:
		b.held = false
		var answer moved
		var lost error
		if answer.Clients, lost = to.Serve(); lost != nil {
			answer.Error = lost.Error()
		}
		return l.send(kindMoved, answer)
	case kindBack:
		if b.held {
			b.held = false
			to.Drop()
		}
	}
	return nil
}

// take returns duplicates of a record's descriptors: a file closes its own when it is collected. It
// does not change the sockets, as os.File.Fd might: another process may be using them.
func (r *record) take() (fds []int, err error) {
	for _, f := range r.files {
		fd := -1
		raw, err := f.SyscallConn()
		if err == nil {
			if e := raw.Control(func(from uintptr) { fd, err = unix.FcntlInt(from, unix.F_DUPFD_CLOEXEC, 0) }); e != nil {
				err = e
			}
		}
		if err != nil {
			for _, fd := range fds {
				_ = unix.Close(fd)
			}
			return nil, fmt.Errorf("%w: is the limit of open files (ulimit -n) reached?", err)
		}
		fds = append(fds, fd)
	}
	return fds, nil
}
