package config

import (
	"bytes"
	"encoding/json"
)

// Change is a setting that differs between two configurations, with its values as they may be
// shown: without credentials.
type Change struct {
	Setting string          `json:"setting"`
	From    json.RawMessage `json:"from"`
	To      json.RawMessage `json:"to"`
}

// Difference is what a reload would change.
type Difference struct {
	Changed      []Change // takes effect in the running gateway
	NeedsRestart []Change // does not
}

// Merge returns running with the reloadable settings of next, and how the two differ. What needs a
// restart keeps its value, so the next comparison reports it again. Fields without a row in the
// table are those of running.
func Merge(running, next Config) (merged Config, d Difference) {
	merged = running
	d = Difference{Changed: []Change{}, NeedsRestart: []Change{}} // empty lists in JSON
	a, b := running.WithDefaults(), next.WithDefaults()
	for i := range settings {
		s := &settings[i]
		if bytes.Equal(jsonOf(s.toJSON(&a)), jsonOf(s.toJSON(&b))) {
			continue
		}
		change := Change{s.key, s.shown(&a), s.shown(&b)}
		if !s.has(reloadable) {
			d.NeedsRestart = append(d.NeedsRestart, change)
			continue
		}
		d.Changed = append(d.Changed, change)
		s.copy(&merged, &next)
	}
	return merged, d
}
