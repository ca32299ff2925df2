package res

// Kind says what a Value is (RES.md section 1).
type Kind uint8

// Kinds of values. The zero Value is no valid value of any resource: its Raw is empty.
const (
	Primitive     Kind = iota // string, number, true, false or null
	Reference                 // {"rid":"…"}: followed, makes a client subscribe
	SoftReference             // {"rid":"…","soft":true}: shown, never followed
	Data                      // {"data":…} holding an object or an array
	Delete                    // {"action":"delete"}: the removal of a property, in change events only
)

const (
	deleteRaw  = `{"action":"delete"}`
	dataPrefix = `{"data":`
)

// Value is one value of a model or a collection. It is immutable and safe to share.
type Value struct {
	// Kind says which of the other fields count.
	Kind Kind
	// Raw is the value as current clients get it: compact JSON in valid UTF-8.
	Raw string
	// RID is the resource ID of a Reference or SoftReference, unescaped; else empty.
	RID string
}

// DeleteValue is the delete action, as a change event uses it.
var DeleteValue = Value{Kind: Delete, Raw: deleteRaw}

// Equal tells whether two values are the same: equal kinds, and for references the same rid, otherwise the same raw
// JSON bytes (RES.md section 1).
func (v Value) Equal(w Value) bool {
	if v.Kind != w.Kind {
		return false
	}
	switch v.Kind {
	case Reference, SoftReference:
		return v.RID == w.RID
	case Delete:
		return true
	}
	return v.Raw == w.Raw
}

// Special tells whether older clients get another form of the value than current ones: see AppendJSON.
func (v Value) Special() bool { return v.Kind == SoftReference || v.Kind == Data }

// AppendJSON appends the value as a client gets it. legacy is for clients below 1.2.1 (RES.md 2.5): a soft reference is
// then the plain string of its rid, a data value the string "[Data]".
func (v Value) AppendJSON(dst []byte, legacy bool) []byte {
	if legacy {
		switch v.Kind {
		case SoftReference:
			return AppendString(dst, v.RID)
		case Data:
			return append(dst, `"[Data]"`...)
		}
	}
	return append(dst, v.Raw...)
}

// Content is the JSON that a data value holds, for those who show it without its wrapping (RES.md section 4). Of other
// kinds it is Raw.
func (v Value) Content() string {
	if v.Kind == Data {
		return v.Raw[len(dataPrefix) : len(v.Raw)-1]
	}
	return v.Raw
}

// Prop is a named value of a model, or in a change event its new value.
type Prop struct {
	Key   string
	Value Value
}
