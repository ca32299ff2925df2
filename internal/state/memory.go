package state

// What a client's backlog keeps alive must be known without a walk: a version of a resource shares
// most of its tree with those before and after it. So each snapshot carries how many bytes all
// edits up to it have replaced (past). The difference of two versions' sums is about what the older
// one keeps that the newer one has not.

const (
	// eventBytes is about what an Event takes up without its values.
	eventBytes = 256
	// stepBytes is about what a step of a long difference takes up: an Event, and a Snapshot that
	// stands in for a tree. Its value is a part of one of the states that the difference is
	// between.
	stepBytes = 448
	// valueBytes is what the tree keeps of one entry beside the text of its key and value: a
	// res.Value, the header of its key, and a share of the node.
	valueBytes = 64
	// innerBytes is about what an inner node takes up: a pointer, an end and a first key per child.
	innerBytes = fill*32 + valueBytes
)

// TreeBytes returns about how many bytes the snapshot's tree takes up, in O(1).
func (s *Snapshot) TreeBytes() int { return s.Bytes() + valueBytes*s.Len() + valueBytes }

// pathBytes returns about how many bytes an edit copies: a leaf and the inner nodes above it. The
// snapshot has a tree.
func (s *Snapshot) pathBytes() int {
	return valueBytes*min(s.root.count, fill) + valueBytes + int(s.height)*innerBytes
}

// Retains returns about how many bytes of s later does not share, in O(1). It is TreeBytes at most.
// later is a version after s of the same resource; of another tree it shares nothing.
func (s *Snapshot) Retains(later *Snapshot) int {
	switch {
	case s == later:
		return 0
	case later.past < s.past:
		return s.TreeBytes()
	}
	return min(later.past-s.past, s.TreeBytes())
}

// Before reports whether s is a version before o of the same resource, by what has been replaced.
func (s *Snapshot) Before(o *Snapshot) bool { return s.past < o.past }

// Replaces records that s is the version after prev, with a tree of its own. No other goroutine may
// have s yet.
func (s *Snapshot) Replaces(prev *Snapshot) { s.past = prev.past + prev.TreeBytes() }

// DropTexts drops the encoded texts. The next reader encodes again what it needs. It is for
// a version that is kept only because some client has it: its text may be as large as its tree.
func (s *Snapshot) DropTexts() {
	if s.json.Load() != nil {
		s.json.Store(nil)
	}
	if s.legacy.Load() != nil {
		s.legacy.Store(nil)
	}
}

// StepBytes returns about how many bytes the events of a long difference take up, in O(1). The
// states that it is between are not counted.
func StepBytes(events []*Event) int {
	if len(events) == 0 {
		return 0
	}
	n := len(events) * stepBytes
	if next := events[0].Next; next.lazy == nil {
		n += len(events) * next.pathBytes()
	}
	return n
}
