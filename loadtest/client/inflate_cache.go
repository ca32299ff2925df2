//go:build linux

package client

import (
	"bytes"

	"sluice/wsproto"
)

// inflateCache holds the last few compressed messages that a thread received, with
// their texts. Without context takeover an event is the same bytes for every
// client, so the second client's copy costs a comparison and no inflation.
type inflateCache struct {
	entries [8]struct{ packed, text []byte }
	next    int // the entry to replace
}

// text returns what a compressed message inflates to. It is valid until the cache has
// missed as often as it has entries.
func (d *inflateCache) text(op wsproto.Op, packed []byte) ([]byte, error) {
	for i := range d.entries {
		if e := &d.entries[i]; len(e.packed) > 0 && bytes.Equal(e.packed, packed) {
			return e.text, nil
		}
	}
	e := &d.entries[d.next]
	d.next = (d.next + 1) % len(d.entries)
	e.packed = e.packed[:0] // no entry if this fails
	out, err := wsproto.InflateMessage(op, packed, maxMessage, nil)
	defer out.Put()
	if err != nil {
		return nil, err
	}
	e.text, e.packed = append(e.text[:0], out.B...), append(e.packed, packed...)
	return e.text, nil
}
