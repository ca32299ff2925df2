package state

import (
	"strconv"
	"sync/atomic"
	"time"

	"sluice/internal/res"
)

// Kind is the type of an Event.
type Kind uint8

// Kinds of events.
const (
	Change Kind = iota // sets or removes properties of a model
	Add                // inserts a value into a collection
	Remove             // removes a value from a collection
	Delete             // the resource no longer exists
	Custom             // carries no state; "create" is one
)

// String returns the event's name in the protocol; "custom" for any custom event.
func (k Kind) String() string {
	return [...]string{"change", "add", "remove", "delete", "custom"}[k]
}

// PropChange is the change of one property. New is a delete action if the property is removed.
type PropChange struct {
	Key    string
	New    res.Value
	Old    res.Value // valid if HadOld
	HadOld bool
}

// Event is a step from one snapshot to the next. It is immutable, but for the count of its holders,
// and shared by all subscribers.
type Event struct {
	Kind Kind
	// Name is the name of a Custom event.
	Name string

	// Changes of a Change: effective changes only, sorted by key.
	Changes []PropChange
	// Index of an Add or Remove.
	Index int
	// Value that an Add inserts.
	Value res.Value
	// Old is the value that a Remove removes.
	Old res.Value
	// Payload of a Custom event: compact JSON, or nil for none.
	Payload []byte

	// Lost is how many custom events this one replaces; 0: none. It is a Custom, see NewLost.
	Lost int

	// Reason of a Delete: why the gateway ends the subscription; nil if the service has deleted it.
	Reason *res.Error

	// Next is the state after the event; for Custom and Delete events the unchanged state.
	Next *Snapshot

	// AddedRefs and RemovedRefs are the rids of non-soft references that the event adds and
	// removes, once per occurrence. A rid may be in both, or occur elsewhere in the resource too:
	// the receiver counts. A Delete lists none.
	AddedRefs, RemovedRefs []string

	holders atomic.Int32
}

// Hold records that one more queue has e, and reports whether it is the first. Any goroutine may
// call it.
func (e *Event) Hold() bool { return e.holders.Add(1) == 1 }

// Release records that a queue has e no more, and reports whether it was the last. Any goroutine
// may call it.
func (e *Event) Release() bool { return e.holders.Add(-1) == 0 }

// Size returns about how many bytes of memory only the holders of e keep: the event, its values,
// and what the state after it does not share with the next. It is the same at each call.
func (e *Event) Size() int {
	n := eventBytes + len(e.Payload) + len(e.Value.Raw) + len(e.Old.Raw)
	for i := range e.Changes {
		n += eventBytes + len(e.Changes[i].New.Raw) + len(e.Changes[i].Old.Raw)
	}
	switch {
	case e.Next == nil || e.Next.lazy != nil:
	case e.Kind == Delete: // no cache has the last state any more
		n += e.Next.TreeBytes()
	case e.Kind != Custom:
		n += min(max(len(e.Changes), 1)*e.Next.pathBytes(), e.Next.TreeBytes())
	}
	return n
}

// NewCustom returns a custom event on a resource whose state is at. It retains payload.
func NewCustom(name string, payload []byte, at *Snapshot) *Event {
	return &Event{Kind: Custom, Name: name, Payload: payload, Next: at}
}

// LostName is the name of the event that tells a client of custom events that were dropped.
const LostName = "eventsLost"

// NewLost returns the event that replaces n dropped custom events, for the clients that asked for
// it. The others do not get it.
func NewLost(n int, at *Snapshot) *Event {
	e := NewCustom(LostName, strconv.AppendInt([]byte(`{"count":`), int64(n), 10), at)
	e.Payload, e.Lost = append(e.Payload, '}'), n
	return e
}

// NewDelete returns the event that deletes a resource whose last state was at.
func NewDelete(at *Snapshot) *Event { return &Event{Kind: Delete, Next: at} }

// NewEnd returns the event that ends the subscriptions to a resource which the gateway can no
// longer follow: reason is why. To those who hold it by reference only it is a Delete.
func NewEnd(at *Snapshot, reason *res.Error) *Event {
	return &Event{Kind: Delete, Next: at, Reason: reason}
}

func (e *Event) refs(old, now res.Value) {
	if old.Kind == res.Reference {
		e.RemovedRefs = append(e.RemovedRefs, old.RID)
	}
	if now.Kind == res.Reference {
		e.AddedRefs = append(e.AddedRefs, now.RID)
	}
}

// AppendData appends the "data" of the client's event (RES.md section 2.4); with legacy, in the
// form for clients below protocol 1.2.1.
//
// For a Change, Add or Remove it appends an object without its closing brace, since a resource set
// may follow:
//
//	{"values":{"a":1}     {"idx":0,"value":1     {"idx":0
//
// For a Custom event it appends the whole payload, for a Delete nothing.
func (e *Event) AppendData(dst []byte, legacy bool) []byte {
	switch e.Kind {
	case Change:
		dst = append(dst, `{"values":{`...)
		for i := range e.Changes {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = res.AppendString(dst, e.Changes[i].Key)
			dst = append(dst, ':')
			dst = e.Changes[i].New.AppendJSON(dst, legacy)
		}
		dst = append(dst, '}')
	case Add:
		dst = append(dst, `{"idx":`...)
		dst = strconv.AppendInt(dst, int64(e.Index), 10)
		dst = append(dst, `,"value":`...)
		dst = e.Value.AppendJSON(dst, legacy)
	case Remove:
		dst = append(dst, `{"idx":`...)
		dst = strconv.AppendInt(dst, int64(e.Index), 10)
	case Custom:
		dst = append(dst, e.Payload...)
	}
	return dst
}

// HasSpecial reports whether AppendData differs for clients below protocol 1.2.1.
func (e *Event) HasSpecial() bool {
	if e.Value.Special() {
		return true
	}
	for i := range e.Changes {
		if e.Changes[i].New.Special() {
			return true
		}
	}
	return false
}

// UpdateKind is the type of an Update; it determines which fields are set.
type UpdateKind uint8

// Kinds of updates.
const (
	Loaded   UpdateKind = iota // Snapshot: the state at which the subscription starts
	Failed                     // Err: the get failed; the shard has dropped the subscription
	Applied                    // Event; after a Delete the shard has dropped the subscription
	Reaccess                   // access must be requested again
	Synced                     // Snapshot: the newest state, events before it were skipped; the loop sends the diff, or Steps
)

// String returns the kind's name for logs and transcripts.
func (k UpdateKind) String() string {
	return [...]string{"loaded", "failed", "applied", "reaccess", "synced"}[k]
}

// Update is a message from a shard to a loop about one of the loop's subscriptions. Ref is the
// loop's name for the subscription; the loop ignores updates with a Ref it no longer has.
type Update struct {
	Ref      uint64
	Kind     UpdateKind
	Snapshot *Snapshot
	Query    string // of Loaded: the normalised query of the resource that Snapshot is of
	Event    *Event
	Lost     int           // of Synced: custom events that were dropped
	At       time.Duration // of Applied: when the event arrived, by the gateway's clock; 0: unknown
	Steps    []*Event      // of Synced: the events that lead to Snapshot, for a subscription that has skipped none
	Err      *res.Error
}

// Sum returns a checksum of what e says, by which two processes compare the events that they have
// handled. Its low bit is 1 if e changes the state.
func (e *Event) Sum() uint64 {
	s := sum(fnvOffset).byte(byte(e.Kind)).text(e.Name).number(e.Index).text(string(e.Payload))
	s = s.value(&e.Value).value(&e.Old)
	for i := range e.Changes {
		s = s.text(e.Changes[i].Key).value(&e.Changes[i].New).value(&e.Changes[i].Old)
	}
	if e.Kind == Custom {
		return uint64(s) &^ 1
	}
	return uint64(s) | 1
}

// sum is an FNV-1a hash.
type sum uint64

const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

func (s sum) byte(b byte) sum { return (s ^ sum(b)) * fnvPrime }

func (s sum) number(n int) sum {
	for range 8 {
		s = s.byte(byte(n))
		n >>= 8
	}
	return s
}

func (s sum) text(t string) sum {
	s = s.number(len(t))
	for i := range len(t) {
		s = s.byte(t[i])
	}
	return s
}

func (s sum) value(v *res.Value) sum { return s.byte(byte(v.Kind)).text(v.Raw) }
