package res

// Kind is the kind of a Value (RES.md section 1).
type Kind uint8

// Kinds of values. The zero Value is not a valid value of a resource: its Raw is empty.
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
	// Kind decides which of the other fields are set.
	Kind Kind
	// Raw is the value in the form for current clients: compact JSON in valid UTF-8.
	Raw string
	// RID is the unescaped resource ID of a Reference or SoftReference; empty for other kinds.
	RID string
}

// DeleteValue is the delete action, as a change event uses it.
var DeleteValue = Value{Kind: Delete, Raw: deleteRaw}

// Equal reports whether two values are equal: of the same kind, with the same rid (references) or
// the same raw JSON bytes (RES.md section 1).
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

// Special reports whether clients below 1.2.1 receive another form of the value: see AppendJSON.
func (v Value) Special() bool { return v.Kind == SoftReference || v.Kind == Data }

// AppendJSON appends the value in the form for a client. legacy selects the form for clients below
// 1.2.1 (RES.md 2.5): a soft reference is the string of its rid, and a data value the string
// "[Data]".
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

// Content returns the JSON that a data value wraps, for HTTP responses (RES.md section 4). For
// other kinds it returns Raw.
func (v Value) Content() string {
	if v.Kind == Data {
		return v.Raw[len(dataPrefix) : len(v.Raw)-1]
	}
	return v.Raw
}

// Prop is a property of a model, or its new value in a change event.
type Prop struct {
	Key   string
	Value Value
}
