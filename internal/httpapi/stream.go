package httpapi

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"sluice/internal/res"
)

// Sink takes the frames of a stream of server-sent events, each whole, from "data:" or "event:" to
// its empty line. A backend uses it from one goroutine at a time, and may keep it beyond the end of
// the request. It never blocks.
type Sink interface {
	// Send takes a frame, which is immutable from then on and may be shared. False: the stream has
	// ended, or ends now because its client does not read; nothing more is taken.
	Send(frame []byte) bool
	// Close ends the stream once all that was sent has been written. Calling it again does nothing.
	Close()
}

// heartbeat is a comment: it keeps the connection from being taken for dead, and finds out whether
// it is.
var heartbeat = []byte(":\n\n")

var (
	typeStream  = []string{"text/event-stream; charset=utf-8"}
	noBuffering = []string{"no"}
)

// Streamed answers a GET that asks for server-sent events by what a Backend's Stream returned, on
// top of what Handler.CORS says. It reports whether the stream begins: then the answer is the head
// that comes before the frames. path is the request's, for the log.
func (h *Handler) Streamed(a *Answer, path string, meta *res.Meta, err *res.Error) bool {
	if h.ended(a, path, meta, "", err) {
		return false
	}
	if err != nil {
		a.Fail(err)
		return false
	}
	a.Header["Content-Type"] = typeStream
	a.Header["Cache-Control"] = noCache
	a.Header["X-Accel-Buffering"] = noBuffering // nginx buffers responses without it
	a.Status, a.stream = http.StatusOK, true
	return true
}

// queue is the bounded buffer between the backend and the goroutine that writes.
type queue struct {
	// Fixed after construction.
	limit int64
	done  <-chan struct{} // closed when the request has ended

	// Shared by both sides.
	frames chan []byte
	bytes  atomic.Int64 // of what is in frames or being written
	closed chan struct{}
	once   sync.Once   // closes closed
	cut    atomic.Bool // the client did not read
}

func newQueue(messages, bytes int, done <-chan struct{}) *queue {
	return &queue{limit: int64(bytes), done: done, frames: make(chan []byte, messages), closed: make(chan struct{})}
}

// Send implements Sink.
func (q *queue) Send(frame []byte) bool {
	select {
	case <-q.closed:
		return false
	case <-q.done:
		return false
	default:
	}
	size := int64(len(frame))
	if size == 0 {
		return true
	}
	if all := q.bytes.Add(size); all <= q.limit || all == size {
		select {
		case q.frames <- frame:
			return true
		default:
		}
	}
	q.cut.Store(true)
	q.Close()
	return false
}

// Close implements Sink.
func (q *queue) Close() { q.once.Do(func() { close(q.closed) }) }

// stream answers a GET that asks for server-sent events. It returns when the client has gone or the
// backend has closed the stream.
func (h *Handler) stream(w http.ResponseWriter, r *http.Request, rid string) {
	// The context ends with this function in any case, which is how the backend learns of it.
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	r = r.WithContext(ctx)
	q := newQueue(h.o.StreamMessages, h.o.StreamBytes, ctx.Done())
	meta, err := h.backend.Stream(r, rid, q)
	a := Answer{Header: w.Header()}
	if !h.Streamed(&a, r.URL.Path, meta, err) {
		a.Send(w, r.Method)
		return
	}
	h.o.Metrics.Streams.Add(1)
	defer h.o.Metrics.Streams.Add(-1)
	if r.ProtoMajor == 1 {
		// The deadlines set below are for this stream only.
		w.Header().Set("Connection", "close")
	}
	a.Send(w, r.Method)
	s := streamWriter{w: w, control: http.NewResponseController(w), limit: h.o.StreamWrite, queue: q}
	// A deadline for reading the request would end the context of one that lasts. Writers without
	// deadlines, as in tests, have none to lift.
	_ = s.control.SetReadDeadline(time.Time{})
	s.run(ctx, h.o.Heartbeat)
	if q.cut.Load() {
		h.o.Metrics.StreamsCut.Add(1)
	}
}

// streamWriter writes a stream's messages. It is its goroutine's own.
type streamWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	limit   time.Duration
	queue   *queue
}

func (s *streamWriter) run(ctx context.Context, silence time.Duration) {
	// The header leaves at once, also if there is no message yet.
	if s.flush(nil) != nil {
		return
	}
	timer := time.NewTimer(silence)
	defer timer.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case frame := <-s.queue.frames:
			err = s.flush(frame)
		case <-timer.C:
			err = s.flush(heartbeat)
		case <-s.queue.closed:
			s.rest(ctx)
			return
		}
		if err != nil {
			return
		}
		timer.Reset(silence)
	}
}

// rest writes what was sent before the stream was closed, unless its client does not read anyway.
func (s *streamWriter) rest(ctx context.Context) {
	for !s.queue.cut.Load() && ctx.Err() == nil {
		select {
		case frame := <-s.queue.frames:
			if s.flush(frame) != nil {
				return
			}
		default:
			return
		}
	}
}

// flush writes a frame and all that wait behind it, and then sends them on their way together.
func (s *streamWriter) flush(frame []byte) error {
	_ = s.control.SetWriteDeadline(time.Now().Add(s.limit))
	for waiting := len(s.queue.frames); frame != nil; waiting-- {
		_, err := s.w.Write(frame)
		if &frame[0] != &heartbeat[0] {
			s.queue.bytes.Add(-int64(len(frame)))
		}
		if err != nil {
			return err
		}
		if waiting <= 0 {
			break
		}
		frame = <-s.queue.frames // there is one: nobody else takes any
	}
	return s.control.Flush()
}
