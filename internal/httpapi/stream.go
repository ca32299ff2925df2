package httpapi

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sluice/internal/res"
)

// Sink takes the frames of a stream of server-sent events, each complete, from "data:" or "event:"
// to its empty line. A backend uses it from one goroutine at a time, and may use it after the end
// of the request. It never blocks.
type Sink interface {
	// Send queues a frame, which is immutable from then on and may be shared. It returns false if
	// the stream has ended, or ends now because its backlog is full.
	Send(frame []byte) bool
	// Close ends the stream once all queued frames have been written. It may be called again.
	Close()
}

// heartbeat is a comment: it keeps proxies from closing an idle connection, and detects a dead one.
var heartbeat = []byte(":\n\n")

var (
	typeStream  = []string{"text/event-stream; charset=utf-8"}
	noBuffering = []string{"no"}
)

// askLost is the query parameter by which the client of a stream asks to be told of custom events
// that were dropped. A page's EventSource can set neither a header field nor its Accept.
const askLost = "eventsLost=true"

// CutLost returns the query of a stream's request without the parameter that asks for eventsLost,
// which is not part of the resource ID, and whether it was there.
func CutLost(query string) (rest string, asked bool) {
	if !strings.Contains(query, askLost) {
		return query, false
	}
	parts := strings.Split(query, "&")
	kept := slices.DeleteFunc(parts, func(part string) bool { return part == askLost })
	return strings.Join(kept, "&"), len(kept) < len(parts)
}

// Streamed builds the response to a GET that asks for server-sent events from what a Backend's
// Stream returned; resp has the fields of Handler.CORS. It reports whether the stream begins: then
// the response has a head only, and the frames follow. path is the request's, for the log.
func (h *Handler) Streamed(resp *Response, path string, meta *res.Meta, err *res.Error) bool {
	if h.ended(resp, path, meta, "", err) {
		return false
	}
	if err != nil {
		resp.Fail(err)
		return false
	}
	resp.Header["Content-Type"] = typeStream
	resp.Header["Cache-Control"] = noCache
	resp.Header["X-Accel-Buffering"] = noBuffering // nginx buffers responses without it
	resp.Status, resp.stream = http.StatusOK, true
	return true
}

// queue is the bounded backlog between the backend and the goroutine that writes.
type queue struct {
	// Fixed after construction.
	limit int64
	done  <-chan struct{} // closed when the request has ended

	// Shared by both sides.
	frames chan []byte
	bytes  atomic.Int64 // in frames or being written
	closed chan struct{}
	once   sync.Once   // closes closed
	cut    atomic.Bool // the backlog was full
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

// stream serves a GET that asks for server-sent events. It returns when the client has gone or the
// backend has closed the stream.
func (h *Handler) stream(w http.ResponseWriter, r *http.Request, rid string) {
	// The context ends with this function: the backend unsubscribes then.
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	r = r.WithContext(ctx)
	q := newQueue(h.o.StreamMessages, h.live.Load().StreamBytes, ctx.Done())
	meta, err := h.backend.Stream(r, rid, q)
	resp := Response{Header: w.Header()}
	if !h.Streamed(&resp, r.URL.Path, meta, err) {
		resp.Send(w, r.Method)
		return
	}
	h.o.Metrics.Streams.Add(1)
	defer h.o.Metrics.Streams.Add(-1)
	if r.ProtoMajor == 1 {
		// The deadlines set below are for this stream only.
		w.Header().Set("Connection", "close")
	}
	resp.Send(w, r.Method)
	s := streamWriter{w: w, control: http.NewResponseController(w), limit: h.o.StreamWrite, queue: q}
	// The read deadline would end the context of a stream that lasts longer. An error means that
	// the writer supports no deadlines, as in tests.
	_ = s.control.SetReadDeadline(time.Time{})
	x := h.writing.add(w, &q.bytes)
	defer h.writing.remove(x)
	s.written = func() { h.writing.progress(x) }
	s.run(ctx, func() time.Duration { return h.live.Load().Heartbeat })
	if q.cut.Load() {
		h.o.Metrics.StreamsCut.Add(1)
	}
}

// streamWriter writes a stream's frames. The request's goroutine owns it.
type streamWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	limit   time.Duration
	queue   *queue
	written func() // called after each flush
}

// recheck is when a stream without heartbeats finds out whether it is to have them now.
const recheck = time.Minute

func (s *streamWriter) run(ctx context.Context, heartbeats func() time.Duration) {
	// Send the head immediately, also if there is no frame yet.
	if s.flush(nil) != nil {
		return
	}
	timer := time.NewTimer(recheck)
	defer timer.Stop()
	for {
		silence := heartbeats()
		beats := silence > 0
		if !beats {
			silence = recheck
		}
		timer.Reset(silence)
		var err error
		select {
		case <-ctx.Done():
			return
		case frame := <-s.queue.frames:
			err = s.flush(frame)
		case <-timer.C:
			if beats {
				err = s.flush(heartbeat)
			}
		case <-s.queue.closed:
			s.rest(ctx)
			return
		}
		if err != nil {
			return
		}
	}
}

// rest writes the frames queued before the stream was closed, unless its client does not read.
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

// flush writes a frame and all that are queued after it, and flushes them in one batch.
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
		frame = <-s.queue.frames // does not block: no other goroutine receives
	}
	s.written()
	return s.control.Flush()
}
