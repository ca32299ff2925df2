package livetrace

import (
	"bytes"
	"compress/flate"
	"io"
	"strings"
	"time"

	"sluice/internal/res"
)

// The kinds of a Line.
const (
	In      = "in"      // a message from a client, or an HTTP request
	Out     = "out"     // a message to the client
	Request = "request" // a request to a service
	Reply   = "reply"   // its reply, or the error that replaces it
	Event   = "event"   // an event from a service
	Fanout  = "fanout"  // an event that an event loop gave to its clients
	Status  = "status"  // of the trace itself: now and then
	End     = "end"     // of the trace itself: the last line
)

// Line is one line of a trace. Which fields are set depends on Kind.
type Line struct {
	Time    string  `json:"time"` // UTC, RFC 3339
	Kind    string  `json:"kind"`
	Owner   string  `json:"owner,omitempty"` // event loop or cache shard that it passed
	CID     string  `json:"cid,omitempty"`   // client that it belongs to
	ID      string  `json:"id,omitempty"`    // of the client's request
	Method  string  `json:"method,omitempty"`
	Subject string  `json:"subject,omitempty"` // in NATS
	RID     string  `json:"rid,omitempty"`
	Event   string  `json:"event,omitempty"`   // name
	Clients int     `json:"clients,omitempty"` // subscribers on the event loop
	TookMs  float64 `json:"tookMs,omitempty"`  // since the request
	Error   string  `json:"error,omitempty"`
	Size    int     `json:"size,omitempty"` // bytes of the payload; of Out: of the message as it is sent
	Payload string  `json:"payload,omitempty"`
	Cut     bool    `json:"cut,omitempty"`    // the payload is longer
	Hidden  bool    `json:"hidden,omitempty"` // the payload is secret

	Lines   uint64 `json:"lines,omitempty"`   // so far
	Omitted uint64 `json:"omitted,omitempty"` // messages beyond the rate
	Lost    uint64 `json:"lost,omitempty"`    // lines that the reader was too slow for
	LeftMs  int64  `json:"leftMs,omitempty"`  // until the end
	Reason  string `json:"reason,omitempty"`  // of the end
}

// Received adds a message from a client, as res.Parser.Request has read it. The parameters of an
// auth request are credentials. What is no request is not shown: it may be anything.
func (t *Trace) Received(owner, cid string, r res.Request, err error) {
	l := Line{Kind: In, Owner: owner, CID: cid, ID: r.ID}
	if err != nil {
		l.Error = err.Error()
		t.put(l, nil, plainText)
		return
	}
	l.RID, l.Method, l.Size, l.Hidden = r.RID, methodOf(&r), len(r.Params), r.Type == res.Auth
	t.put(l, r.Params, plainText)
}

// methodOf returns the method of a request without the resource ID.
func methodOf(r *res.Request) string {
	if r.Method == "" || r.Type == res.New {
		return r.Type.String()
	}
	return r.Type.String() + "." + r.Method
}

// Sent adds the messages to a client that are in text: frames (RFC 6455 section 5.2), or
// server-sent events if stream. compressed says that continuations of fragmented messages are
// compressed, and private that the messages respond to an auth request.
func (t *Trace) Sent(owner, cid string, text []byte, stream, compressed, private bool) {
	for len(text) > 0 {
		message, f, size := text, plainText, len(text)
		if stream {
			if end := bytes.Index(text, []byte("\n\n")); end >= 0 {
				size = end + 2
			}
			message = bytes.TrimSuffix(bytes.TrimPrefix(text[:size], []byte("data: ")), []byte("\n\n"))
		} else {
			head, length := frameLength(text)
			if size = head + length; size > len(text) {
				return // not a frame: nothing here makes such a one
			}
			message = text[head:size]
			if text[0]&0x40 != 0 || text[0]&0x0f == 0 && compressed {
				f = deflated
			}
		}
		l := Line{Kind: Out, Owner: owner, CID: cid, Size: size, Hidden: private}
		if f == plainText {
			l.ID = lastID(message)
		}
		t.put(l, message, f)
		text = text[size:]
	}
}

// frameLength returns the lengths of an unmasked frame's head and payload.
func frameLength(frame []byte) (head, length int) {
	most := map[byte]int{126: 2, 127: 8}
	if len(frame) < 2 {
		return 2, 0
	}
	n, long := most[frame[1]]
	if !long {
		return 2, int(frame[1])
	}
	if len(frame) < 2+n {
		return 2 + n, 0
	}
	for _, b := range frame[2 : 2+n] {
		length = length<<8 | int(b)
	}
	return 2 + n, length
}

// Requested adds a request to a service.
func (t *Trace) Requested(owner, cid, name, subject string, payload []byte) {
	t.put(Line{Kind: Request, Owner: owner, CID: cid, RID: name, Subject: subject, Size: len(payload), Hidden: isAuth(subject)}, payload, plainText)
}

// Replied adds the reply to a request, or the error that replaces it. began is when the request was
// made, by the trace's clock.
func (t *Trace) Replied(owner, cid, name, subject string, began time.Duration, payload []byte, err *res.Error) {
	l := Line{Kind: Reply, Owner: owner, CID: cid, RID: name, Subject: subject, Size: len(payload), Hidden: isAuth(subject)}
	l.TookMs = float64((t.o.Clock.Now() - began).Microseconds()) / 1000
	if err != nil {
		l.Error = err.Error()
	}
	t.put(l, payload, plainText)
}

// Now returns the time of the trace's clock.
func (t *Trace) Now() time.Duration { return t.o.Clock.Now() }

// isAuth reports whether a subject is that of an auth request. Its payload has credentials and the
// header of the client's HTTP request; its reply may have a token.
func isAuth(subject string) bool { return strings.HasPrefix(subject, "auth.") }

// Arrived adds an event from a service.
func (t *Trace) Arrived(owner, name, event string, payload []byte) {
	t.put(Line{Kind: Event, Owner: owner, RID: name, Event: event, Subject: "event." + name + "." + event, Size: len(payload)}, payload, plainText)
}

// Delivered adds an event that an event loop gave to its clients.
func (t *Trace) Delivered(owner, rid, event string, clients int) {
	t.put(Line{Kind: Fanout, Owner: owner, RID: rid, Event: event, Clients: clients}, nil, plainText)
}

// line makes the line of a record, on the reader's goroutine.
func (t *Trace) line(r *record) *Line {
	l := r.Line
	l.Time = t.when(r.at)
	text := r.payload
	if r.form == deflated {
		text, l.Cut = inflate(text, t.o.Bytes, l.Cut)
	}
	if l.Kind == Out {
		classify(&l, text)
	}
	l.RID, l.Payload = RedactRID(l.RID), redact(text)
	if l.Subject != "" {
		l.Subject = strings.ToValidUTF8(l.Subject, "\uFFFD")
	}
	return &l
}

// inflate returns the first n bytes of a compressed message (RFC 7692 section 7.2.2), of which the
// end may be missing, and whether there are more.
func inflate(packed []byte, n int, more bool) ([]byte, bool) {
	tail := "\x00\x00\xff\xff"
	if more {
		tail = ""
	}
	r := flate.NewReader(io.MultiReader(bytes.NewReader(packed), strings.NewReader(tail)))
	text, _ := io.ReadAll(io.LimitReader(r, int64(n)+1)) // no stream has an end: it always fails
	if len(text) > n {
		return text[:n], true
	}
	return text, more
}

// classify sets what the beginning of a message to a client says: whether it is a response or an
// event (RES.md section 2).
func classify(l *Line, text []byte) {
	if rest, ok := bytes.CutPrefix(text, []byte(`{"event":"`)); ok {
		if end := bytes.IndexByte(rest, '"'); end > 0 {
			name := string(rest[:end])
			if dot := strings.LastIndexByte(name, '.'); dot > 0 {
				l.RID, l.Event = name[:dot], name[dot+1:]
			}
		}
		return
	}
	if rest, ok := bytes.CutPrefix(text, []byte(`{"id":`)); ok {
		if end := bytes.IndexByte(rest, ','); end > 0 {
			l.ID = string(rest[:end])
		}
	} else if !l.Cut && l.ID == "" {
		l.ID = lastID(text)
	}
}

// lastID returns the ID of a response that has it as its last member, "" if it has not.
func lastID(message []byte) string {
	const longest = 64 // as the parser accepts it, with what surrounds it
	tail := message[max(0, len(message)-longest):]
	at := bytes.LastIndex(tail, []byte(`,"id":`))
	if at < 0 {
		return ""
	}
	id, whole := bytes.CutSuffix(tail[at+len(`,"id":`):], []byte("}"))
	if !whole || bytes.ContainsAny(id, `}]",`) || bytes.HasPrefix(message, []byte(`{"event":`)) {
		return ""
	}
	return string(id)
}
