package livetrace

import (
	"fmt"
	"strings"
	"time"
	"unicode"
)

// String returns the line for a terminal: one line of text without control characters.
func (l *Line) String() string {
	at := l.Time
	if t, err := time.Parse(time.RFC3339Nano, l.Time); err == nil {
		at = t.Local().Format("15:04:05.000")
	}
	parts := []string{at, fmt.Sprintf("%-7s", l.Kind)}
	add := func(format string, v any, shown bool) {
		if shown {
			parts = append(parts, fmt.Sprintf(format, v))
		}
	}
	if l.Subject != "" {
		parts = append(parts, l.Subject)
	} else {
		for _, text := range []string{l.Method, l.RID, l.Event} {
			add("%s", text, text != "")
		}
	}
	add("id=%s", l.ID, l.ID != "")
	add("cid=%s", l.CID, l.CID != "")
	add("clients=%d", l.Clients, l.Clients > 0)
	add("took=%vms", l.TookMs, l.TookMs > 0)
	add("error=%q", l.Error, l.Error != "")
	add("size=%d", l.Size, l.Size > 0)
	add("omitted=%d", l.Omitted, l.Omitted > 0)
	add("lost=%d", l.Lost, l.Lost > 0)
	add("left=%ds", (l.LeftMs+999)/1000, l.LeftMs > 0)
	add("%s", l.Reason, l.Reason != "")
	add("%s", "(hidden)", l.Hidden)
	add("%s", l.Payload, l.Payload != "")
	add("%s", "…", l.Cut)
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.Join(parts, " "))
}
