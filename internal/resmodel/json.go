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
	if json.Valid([]byte(s)) {
		p := parser{text: s}
		return p.value(), nil
	}
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
func Encode(v any) string {
	var space [256]byte
	return string(appendValue(space[:0], v))
}

// appendValue appends v as JSON. Models encode much, so what they have most is not left to
// encoding/json, which is several times slower.
func appendValue(b []byte, v any) []byte {
	switch t := v.(type) {
	case map[string]any:
		b = append(b, '{')
		var space [8]string
		keys := slices.AppendSeq(space[:0], maps.Keys(t))
		slices.Sort(keys)
		for i, k := range keys {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendText(b, k), ':')
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
		return appendText(b, t)
	case json.Number:
		return append(b, t...)
	case int:
		return strconv.AppendInt(b, int64(t), 10)
	}
	return appendOther(b, v)
}

// appendText appends a string.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c > '~' {
			return appendOther(b, s)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

// appendOther appends what is rare.
func appendOther(b []byte, v any) []byte {
	var other strings.Builder
	e := json.NewEncoder(&other)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Append(b, v)
	}
	return append(b, strings.TrimSuffix(other.String(), "\n")...)
}
