package resmodel

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Decode parses exactly one JSON value, numbers as json.Number.
func Decode(s string) (any, error) {
	d := json.NewDecoder(strings.NewReader(s))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("text after the JSON value")
	}
	return v, nil
}

// Encode writes a decoded value compactly, without HTML escapes, the keys of objects sorted.
func Encode(v any) string { return string(appendValue(nil, v)) }

// appendValue appends v as JSON. Models encode much, so what they have most is not left to
// encoding/json, which is several times slower.
func appendValue(b []byte, v any) []byte {
	switch t := v.(type) {
	case map[string]any:
		b = append(b, '{')
		for i, k := range slices.Sorted(maps.Keys(t)) {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendValue(b, k), ':')
			b = appendValue(b, t[k])
		}
		return append(b, '}')
	case []any:
		b = append(b, '[')
		for i, e := range t {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendValue(b, e)
		}
		return append(b, ']')
	case string:
		if !strings.ContainsFunc(t, func(r rune) bool { return r < ' ' || r == '"' || r == '\\' || r > '~' }) {
			return append(append(append(b, '"'), t...), '"')
		}
	case json.Number:
		return append(b, t...)
	case int:
		return strconv.AppendInt(b, int64(t), 10)
	}
	var other strings.Builder
	e := json.NewEncoder(&other)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Append(b, v)
	}
	return append(b, strings.TrimSuffix(other.String(), "\n")...)
}
