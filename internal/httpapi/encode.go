package httpapi

import (
	"fmt"
	"strings"
	"sync"
	"unsafe"

	"sluice/fanout"
	"sluice/internal/res"
	"sluice/internal/session"
)

// Names of the encodings (RES.md section 4).
const (
	encodingJSON = "json"     // a reference becomes its path and the resource
	encodingFlat = "jsonflat" // a reference becomes the resource
)

// ValidEncoding reports whether name is that of an encoding, in any letter case.
func ValidEncoding(name string) bool {
	return strings.EqualFold(name, encodingJSON) || strings.EqualFold(name, encodingFlat)
}

// MaxDepth is how many references deep resources are nested in a response. A reference beyond it is
// encoded as in a cycle, as its path.
const MaxDepth = 1000

// maxKept bounds the bytes of a buffer that is reused: a larger one is left to the garbage
// collector.
const maxKept = 256 << 10

// buffers are the idle buffers of encodings.
var buffers = sync.Pool{New: func() any { return &buffer{path: map[string]struct{}{}} }}

// buffer is the memory of one encoding. It has one user at a time.
type buffer struct {
	out     []byte
	open    []open
	entries []entry             // of all open resources, in the order of open
	path    map[string]struct{} // the resource IDs of all open resources
}

// open is a resource whose encoding has begun and not ended: one on the path from the root to the
// current entry.
type open struct {
	rid     string
	next    int // index in entries of its next entry
	start   int // index in entries of its first entry
	model   bool
	wrapped bool // within {"href":…}
}

// entry is a property of a model, or a value of a collection.
type entry struct {
	key   string
	value res.Value
}

func (b *buffer) free() {
	const entrySize = int(unsafe.Sizeof(entry{}))
	if cap(b.out) > maxKept || cap(b.entries)*entrySize > maxKept {
		return
	}
	// A pooled buffer must not keep the text of snapshots alive.
	clear(b.entries[:cap(b.entries)])
	clear(b.open[:cap(b.open)])
	clear(b.path)
	b.out, b.entries, b.open = b.out[:0], b.entries[:0], b.open[:0]
	buffers.Put(b)
}

// encode returns a graph as JSON. The text is immutable, and valid until buf is freed, or for ever
// if shared. With quick > 0, ok is false if the text is longer than that many bytes.
func (h *Handler) encode(buf *buffer, g *session.Graph, quick int) (text []byte, shared, ok bool, err *res.Error) {
	root, err := rootOf(g)
	if err != nil {
		return nil, false, true, err
	}
	most := h.o.MaxResponse
	if quick > 0 {
		most = min(most, quick)
	}
	fits := false
	if s := root.Snapshot; !s.HasRefs() && !s.HasSpecial() {
		// The text that WebSocket clients get, encoded once for all.
		text, shared = s.JSON(false), true
		fits = len(text) <= most
	} else {
		buf.out, fits = h.appendGraph(buf.out[:0], buf, g, root, most)
		text = buf.out
	}
	switch {
	case fits:
		return text, shared, true, nil
	case most < h.o.MaxResponse:
		return nil, false, false, nil
	}
	return nil, false, true, h.tooLarge()
}

// smallSet is how many resources a graph may have to be encoded on an event loop.
const smallSet = 64

// isSmall reports whether a graph's encoding may be no longer than limit bytes. It is an estimate
// at a bounded cost.
func isSmall(g *session.Graph, limit int) bool {
	if len(g.Resources) > smallSet {
		return false
	}
	if s := g.Find(g.Root).Snapshot; g.Resources == nil && s != nil {
		limit -= s.Bytes() + s.Len()
	}
	for _, r := range g.Resources {
		if r.Snapshot != nil {
			limit -= r.Snapshot.Bytes() + r.Snapshot.Len()
		}
	}
	return limit >= 0
}

// AppendGraph appends a resource with all that it refers to as JSON, in the handler's encoding. It
// returns the resource's own error, or one if the text would be longer than Options.MaxResponse.
func (h *Handler) AppendGraph(dst []byte, g *session.Graph) ([]byte, *res.Error) {
	root, err := rootOf(g)
	if err != nil {
		return dst, err
	}
	buf := buffers.Get().(*buffer)
	defer buf.free()
	dst, ok := h.appendGraph(dst, buf, g, root, h.o.MaxResponse)
	if !ok {
		return dst, h.tooLarge()
	}
	return dst, nil
}

func rootOf(g *session.Graph) (fanout.Resource, *res.Error) {
	root := g.Find(g.Root)
	switch {
	case root.Err != nil:
		return root, root.Err
	case root.Snapshot == nil:
		return root, res.ErrInternal
	}
	return root, nil
}

// appendGraph walks the tree that the graph unfolds to, depth first, with an explicit stack. The
// tree can be exponentially larger than the graph. Every step of the walk writes at least a byte,
// so most, the bytes that may be written, bounds the time. It returns false, and dst unchanged, for
// a longer text.
func (h *Handler) appendGraph(dst []byte, buf *buffer, g *session.Graph, root fanout.Resource, most int) ([]byte, bool) {
	limit := len(dst) + most
	dst = h.begin(dst, buf, g.Root, root, false)
	for len(buf.open) > 0 {
		if len(dst) > limit {
			return dst[:limit-most], false
		}
		o := &buf.open[len(buf.open)-1]
		if o.next == len(buf.entries) {
			dst = append(dst, closing(o.model))
			if o.wrapped {
				dst = append(dst, '}')
			}
			delete(buf.path, o.rid)
			buf.entries = buf.entries[:o.start]
			buf.open = buf.open[:len(buf.open)-1]
			continue
		}
		e := &buf.entries[o.next]
		if o.next > o.start {
			dst = append(dst, ',')
		}
		o.next++
		if o.model {
			dst = append(res.AppendString(dst, e.key), ':')
		}
		if e.value.Kind == res.Reference {
			dst = h.appendReference(dst, buf, g, e.value.RID, limit)
		} else {
			dst = h.appendValue(dst, e.value)
		}
	}
	if len(dst) > limit {
		return dst[:limit-most], false
	}
	return dst, true
}

// appendReference writes a reference. If its resource has references, it writes only the part
// before the resource's values, and opens the resource.
func (h *Handler) appendReference(dst []byte, buf *buffer, g *session.Graph, rid string, limit int) []byte {
	_, cycle := buf.path[rid]
	if cycle || len(buf.open) >= MaxDepth {
		return append(h.appendHref(dst, rid), '}')
	}
	r := g.Find(rid)
	err := r.Err
	if err == nil && r.Snapshot == nil {
		err = res.ErrInternal // cannot happen: a graph is complete
	}
	wrap := !h.flat
	if wrap {
		dst = h.appendHref(dst, rid)
	}
	switch {
	case err != nil:
		if wrap {
			dst = append(dst, `,"error":`...)
		}
		dst = err.AppendJSON(dst)
	default:
		if wrap && r.Snapshot.IsModel() {
			dst = append(dst, `,"model":`...)
		} else if wrap {
			dst = append(dst, `,"collection":`...)
		}
		if r.Snapshot.HasRefs() || r.Snapshot.HasSpecial() {
			return h.begin(dst, buf, rid, r, wrap)
		}
		// Without references it cannot be part of a cycle, and its text exists already.
		text := r.Snapshot.JSON(false)
		if len(dst)+len(text) > limit {
			text = text[:max(0, limit+1-len(dst))] // one byte too long: the walk ends
		}
		dst = append(dst, text...)
	}
	if wrap {
		dst = append(dst, '}')
	}
	return dst
}

// begin opens a resource: it writes the opening bracket and puts the resource onto the path.
func (h *Handler) begin(dst []byte, buf *buffer, rid string, r fanout.Resource, wrapped bool) []byte {
	s := r.Snapshot
	start := len(buf.entries)
	for key, v := range s.All() {
		buf.entries = append(buf.entries, entry{key, v})
	}
	buf.open = append(buf.open, open{rid: rid, next: start, start: start, model: s.IsModel(), wrapped: wrapped})
	buf.path[rid] = struct{}{}
	if s.IsModel() {
		return append(dst, '{')
	}
	return append(dst, '[')
}

func closing(model bool) byte {
	if model {
		return '}'
	}
	return ']'
}

// appendValue writes a value that is not a reference to follow.
func (h *Handler) appendValue(dst []byte, v res.Value) []byte {
	if v.Kind == res.SoftReference {
		return append(h.appendHref(dst, v.RID), '}')
	}
	return append(dst, v.Content()...)
}

// appendHref writes {"href":"<path>", without the closing brace.
func (h *Handler) appendHref(dst []byte, rid string) []byte {
	dst = append(dst, `{"href":"`...)
	dst = h.AppendPath(dst, rid)
	return append(dst, '"')
}

func (h *Handler) tooLarge() *res.Error {
	h.o.Metrics.TooLarge.Add(1)
	return res.InternalError(fmt.Sprintf("the resource with all that it refers to is longer than %d bytes", h.o.MaxResponse))
}
