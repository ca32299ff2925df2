package state

import (
	"strconv"

	"sluice/internal/res"
)

// Kind says what an Event does.
type Kind uint8

// Kinds of events.
const (
	Change Kind = iota // a model's properties
	Add                // a value into a collection
	Remove             // a value out of a collection
	Delete             // the resource is gone
	Custom             // carries no state; "create" is one, too
)

// String is the event's name in the protocol; of a custom event, just "custom".
func (k Kind) String() string {
	return [...]string{"change", "add", "remove", "delete", "custom"}[k]
}

// PropChange is what an event does to one property. New is a delete action if the property is removed.
type PropChange struct {
	Key    string
	New    res.Value
	Old    res.Value // counts if HadOld
	HadOld bool
}

// Event is a step from one snapshot to the next. It is immutable and shared by all that it is sent to.
type Event struct {
	Kind Kind
	// Name is the name of a Custom event.
	Name string

	// Changes of a Change, sorted by key, only such that really change something.
	Changes []PropChange
	// Index of an Add or Remove.
	Index int
	// Value that an Add adds.
	Value res.Value
	// Old is the value that a Remove removes.
	Old res.Value
	// Payload of a Custom event: compact JSON, or nil for none.
	Payload []byte

	// Next is the state after the event; of Custom and Delete events the state as it was.
	Next *Snapshot

	// AddedRefs and RemovedRefs are the rids of references, not soft ones, that the event brings and takes, as often as
	// it does: a rid in both, or one that also occurs elsewhere in the resource, is for the receiver to sort out. A
	// Delete lists none.
	AddedRefs, RemovedRefs []string
}

// NewCustom makes a custom event on a resource whose state is at. It keeps payload.
func NewCustom(name string, payload []byte, at *Snapshot) *Event {
	return &Event{Kind: Custom, Name: name, Payload: payload, Next: at}
}

// NewDelete makes the event that ends a resource whose last state was at.
func NewDelete(at *Snapshot) *Event { return &Event{Kind: Delete, Next: at} }

func (e *Event) refs(old, now res.Value) {
	if old.Kind == res.Reference {
		e.RemovedRefs = append(e.RemovedRefs, old.RID)
	}
	if now.Kind == res.Reference {
		e.AddedRefs = append(e.AddedRefs, now.RID)
	}
}

// AppendData appends the "data" of the client's event (RES.md 2.4), in the form for clients below 1.2.1 if legacy is set.
//
// Of a Change, Add or Remove it appends an object without its closing brace, since a resource set may follow:
//
//	{"values":{"a":1}     {"idx":0,"value":1     {"idx":0
//
// Of a Custom event it appends the whole payload, of a Delete nothing.
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

// HasSpecial tells whether AppendData gives another text for clients below 1.2.1.
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

// UpdateKind says what an Update tells.
type UpdateKind uint8

// Kinds of updates.
const (
	Loaded   UpdateKind = iota // Snapshot: the state at which the subscription starts
	Failed                     // Err: there is no subscription, the shard has forgotten it
	Applied                    // Event. After a Delete the shard has forgotten the subscription
	Reaccess                   // access is to be asked again
	Synced                     // Snapshot: the newest state. Events before it were left out; the loop takes the difference, or Steps
)

// String is the kind's name, for logs and transcripts.
func (k UpdateKind) String() string {
	return [...]string{"loaded", "failed", "applied", "reaccess", "synced"}[k]
}

// Update is what a shard tells a loop about one of its subscriptions. Ref is the name that the loop gave it; a loop
// ignores updates of a Ref that it no longer knows.
type Update struct {
	Ref      uint64
	Kind     UpdateKind
	Snapshot *Snapshot
	Event    *Event
	Steps    []*Event // of Synced, for a subscription that has missed nothing: the events that lead to Snapshot
	Err      *res.Error
}
