package tracing

import (
	crypto "crypto/rand"
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"time"
)

// Span is one operation. Its Recorder's owner owns it until End, then the exporter. Its Context may
// be read by any goroutine.
type Span struct {
	Context

	parent     [8]byte // zero: it begins the trace
	kind       kind
	name       string
	start, end time.Duration // of the recorder's clock
	failed     bool
	attrs      []attr
}

// kind is a span's kind, as OTLP numbers them.
type kind uint8

const (
	server kind = 2 // a request of a client
	client kind = 3 // a request to a service
)

// attr is an attribute: a text, or a number.
type attr struct {
	key    string
	text   string
	number float64
	as     attrKind
}

type attrKind uint8

const (
	ofText attrKind = iota
	ofInt
	ofFloat
)

// maxText bounds the text of an attribute, in bytes: a resource ID can be very long.
const maxText = 1024

// Text sets an attribute, unless its text is empty. A long text is cut. Like the other setters, it
// does nothing on a span that is not recorded.
func (s *Span) Text(key, text string) {
	if !s.Sampled || text == "" {
		return
	}
	if len(text) > maxText {
		text = strings.Clone(text[:maxText]) // the whole is not kept in memory for it
	}
	s.attrs = append(s.attrs, attr{key: key, text: text})
}

// Int sets an attribute that is a whole number.
func (s *Span) Int(key string, n int) {
	if s.Sampled {
		s.attrs = append(s.attrs, attr{key: key, number: float64(n), as: ofInt})
	}
}

// Seconds sets an attribute that is a duration, in seconds.
func (s *Span) Seconds(key string, d time.Duration) {
	if s.Sampled {
		s.attrs = append(s.attrs, attr{key: key, number: d.Seconds(), as: ofFloat})
	}
}

// Fail says that the operation has failed for a reason, which is one of few. fault says that it is
// the fault of the gateway or of a service, and not of the request.
func (s *Span) Fail(reason string, fault bool) {
	s.Text("error.type", reason)
	s.failed = s.failed || fault
}

// Recorder makes the spans of an owner, which alone uses it.
type Recorder struct {
	tracer *Tracer
	now    func() time.Duration
	random *rand.ChaCha8
}

// NewRecorder returns the recorder of an owner; nil on a nil Tracer. now is the owner's clock, that
// of Options. Any goroutine may call it.
func (t *Tracer) NewRecorder(now func() time.Duration) *Recorder {
	if t == nil {
		return nil
	}
	var seed [32]byte
	_, _ = crypto.Read(seed[:]) // never fails
	return &Recorder{tracer: t, now: now, random: rand.NewChaCha8(seed)}
}

// Begin begins a span for a request of a client. If parent is valid, it continues that trace, and
// is recorded if the parent is; otherwise the ratio decides.
func (r *Recorder) Begin(name string, parent Context) *Span {
	s := &Span{Context: parent, kind: server, name: name, start: r.now()}
	if parent.Valid() {
		s.parent = parent.Span
	} else {
		r.random.Read(s.Trace[:])
		s.State, s.Sampled = "", r.tracer.samples(s.Trace)
	}
	r.identify(s)
	return s
}

// Child begins a span for a request to a service, within another span, which may be another
// owner's.
func (r *Recorder) Child(name string, parent *Context) *Span {
	s := &Span{Context: *parent, kind: client, name: name, start: r.now(), parent: parent.Span}
	r.identify(s)
	return s
}

func (r *Recorder) identify(s *Span) {
	binary.LittleEndian.PutUint64(s.Span[:], r.random.Uint64()|1) // not zero
	if s.Sampled {
		s.attrs = make([]attr, 0, 8)
	}
}

// End ends a span now.
func (r *Recorder) End(s *Span) { r.EndAt(s, r.now()) }

// EndAt ends a span, and hands it to the exporter. Nothing may be set afterwards. It never waits:
// if too many spans wait to be sent, the span is dropped, and counted.
func (r *Recorder) EndAt(s *Span, at time.Duration) {
	if s.Sampled {
		s.end = max(at, s.start)
		r.tracer.offer(s)
	}
}
