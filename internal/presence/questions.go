package presence

import (
	"encoding/json"
	"errors"
	"log/slog"
	"sort"
	"strconv"
	"strings"
	"time"

	"sluice/internal/loglimit"
	"sluice/internal/res"
)

// question is a message for the tracker's goroutine.
type question struct {
	subject, reply string
	data           []byte
}

// Message takes a message on one of Subjects; a dispatcher calls it. One that finds too many
// waiting is dropped: its sender asks again.
func (t *Tracker) Message(subject, reply string, data []byte) {
	select {
	case t.questions <- question{subject, reply, data}:
	default:
	}
}

// answer handles a message.
func (t *Tracker) answer(q question) {
	switch q.subject {
	case t.names.heartbeat:
		if other, ok := parseHeartbeat(q.data); ok {
			t.hear(&other)
		}
	case t.names.claim:
		if other, ok := parseHeartbeat(q.data); ok {
			if other.Instance != t.o.Instance && !t.env.Draining() {
				t.report(&t.refusals, &other, "a gateway with the same gatewayId wanted to start; it was refused")
			}
			t.mu.Lock()
			defer t.mu.Unlock()
			t.reply(q.reply, t.appendHeartbeat(t.buf[:0], false)) // also to its own: see confirm
		}
	case t.names.connections:
		t.page(q)
	case wake:
		t.mu.Lock()
		soon := t.beat + askedEvery - t.env.Clock.Now()
		t.mu.Unlock()
		if soon > 0 {
			t.alarm.Reset(min(soon, t.o.Interval))
			return
		}
		t.heartbeat()
	}
}

// conflict is another gateway with the same ID.
type conflict struct {
	with  string        // its instance
	until time.Duration // it counts as gone then, if nothing more comes of it
	mine  bool          // this gateway is the one that came later
}

// hear takes note of what another gateway with the same ID says of itself. An instance that is
// being stopped, or that hands its clients over to one of the two, is no conflict.
func (t *Tracker) hear(other *heartbeat) {
	if other.Instance == t.o.Instance {
		return
	}
	now := t.env.Clock.Now()
	if other.Stopped {
		if c := t.conflicting.Load(); c != nil && c.with == other.Instance {
			t.settle(nil)
		}
		return
	}
	later := t.started > other.Started || t.started == other.Started && t.o.Instance > other.Instance
	if other.TakesOver || t.o.TakesOver && later || other.Draining || t.env.Draining() {
		return
	}
	text := "another gateway has the same gatewayId; give each gateway its own"
	if later {
		text = "another gateway had the same gatewayId before; give each gateway its own: this one is not ready"
	}
	t.report(&t.conflicts, other, text)
	interval := min(max(time.Duration(other.Interval)*time.Millisecond, time.Second), time.Hour)
	t.settle(&conflict{with: other.Instance, until: now + missedBeats*interval, mine: later})
}

// report counts and logs a message of another gateway with the same ID.
func (t *Tracker) report(l *loglimit.Limiter, other *heartbeat, text string) {
	t.env.Metrics.Conflicts.Inc()
	l.Log(t.env.Log, slog.LevelError, t.env.Clock.Now(), conflictsEvery, text, "gid", t.o.GID, "instance", other.Instance)
}

func (t *Tracker) settle(c *conflict) {
	t.conflicting.Store(c)
	if c == nil {
		t.env.Metrics.Conflict.Set(0)
	} else {
		t.env.Metrics.Conflict.Set(1)
	}
}

// expire ends a conflict whose other side has been silent for long.
func (t *Tracker) expire() {
	if c := t.conflicting.Load(); c != nil && t.env.Clock.Now() >= c.until {
		t.settle(nil)
	}
}

// Problem returns why new clients should go to another gateway: this one shares its ID with one
// that was there before. nil: they need not.
func (t *Tracker) Problem() error {
	if t == nil {
		return nil
	}
	if c := t.conflicting.Load(); c != nil && c.mine {
		return errors.New("another gateway has the same gatewayId: give each gateway its own")
	}
	return nil
}

// Bounds of a page of the list.
const (
	defaultPage = 1000
	maxPage     = 5000
	maxPageSize = 256 << 10 // bytes after which a page ends
)

// pageRequest is a request for the list of clients.
type pageRequest struct {
	Instance string `json:"instance"` // of the gateway that is to reply; empty: any with the ID
	After    uint64 `json:"after"`    // the "next" of the page before; 0: the first page
	Limit    int    `json:"limit"`    // clients at most; 0: 1,000
}

// page replies to a request for the list of clients. All events up to the page's number have been
// published before it.
func (t *Tracker) page(q question) {
	if q.reply == "" {
		return
	}
	var r pageRequest
	if len(q.data) > 0 && json.Unmarshal(q.data, &r) != nil || r.Limit < 0 {
		t.reply(q.reply, append(res.ErrInvalidParams.AppendJSON([]byte(`{"error":`)), '}'))
		return
	}
	if r.Instance != "" && r.Instance != t.o.Instance {
		return // another process has the ID, too, as in an upgrade
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.flush()
	if t.queue.Len() > 0 {
		return // NATS has just gone away
	}
	t.reply(q.reply, t.appendPage(nil, &r))
}

// appendPage appends a page of the list. mu is held.
func (t *Tracker) appendPage(dst []byte, r *pageRequest) []byte {
	t.skipNumber()
	dst = t.appendSelf(append(dst, `{"result":`...))
	dst = append(dst, `,"seq":`...)
	dst = strconv.AppendUint(dst, t.seq, 10)
	dst = append(dst, `,"connections":[`...)
	left := min(r.Limit, maxPage)
	if left == 0 {
		left = defaultPage
	}
	first, start, next := true, len(dst), uint64(0)
	from := sort.Search(len(t.order), func(i int) bool { return t.order[i].number > r.After })
	last := r.After
	for _, c := range t.order[from:] {
		if c.gone {
			continue
		}
		if left == 0 || len(dst)-start > maxPageSize {
			next = last
			break
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(dst, `{"cid":`...)
		dst = res.AppendString(dst, c.CID)
		dst = append(dst, ',')
		dst = c.appendMembers(dst)
		dst = append(dst, `,"since":`...)
		dst = strconv.AppendInt(dst, c.since, 10)
		dst = append(dst, '}')
		left--
		last = c.number
	}
	dst = append(dst, ']')
	if next > 0 {
		dst = append(dst, `,"next":`...)
		dst = strconv.AppendUint(dst, next, 10)
	}
	return append(dst, "}}"...)
}

// reserved begin the subjects of RES and of this package. A reply that went there would be taken
// for a message of a service or gateway: who asks may be allowed less than the gateway.
var reserved = []string{"access.", "auth.", "call.", "conn.", "event.", "gateway.", "gateways.", "get.", "system.", "$"}

// reply publishes a reply.
func (t *Tracker) reply(subject string, payload []byte) {
	for _, prefix := range reserved {
		if strings.HasPrefix(subject, prefix) {
			return
		}
	}
	if subject != "" {
		_ = t.bus.Publish(subject, payload) // the requester's timeout tells it
	}
}
