package restest

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
)

// more is the member that replaces "..." in an object pattern.
const more = "..."

// Match compares JSON with a pattern by structure. Numbers must have the same text. The error lists
// every difference with its path. Text that is not JSON on either side must be equal byte by byte.
func Match(pattern, actual string) error {
	want, errW := decode(expandMore(pattern))
	got, errG := decode(actual)
	if errW != nil || errG != nil {
		if pattern == actual {
			return nil
		}
		if errW != nil {
			return fmt.Errorf("the pattern is not JSON (%v) and the text differs", errW)
		}
		return fmt.Errorf("not JSON: %v", errG)
	}
	var diffs []string
	compare("", want, got, &diffs)
	if len(diffs) == 0 {
		return nil
	}
	return fmt.Errorf("%s", strings.Join(diffs, "\n"))
}

// expandMore turns the ... of object patterns into a member that JSON allows.
func expandMore(p string) string {
	var b strings.Builder
	inString := false
	for i := 0; i < len(p); i++ {
		switch {
		case inString && p[i] == '\\' && i+1 < len(p):
			b.WriteByte(p[i])
			i++
		case p[i] == '"':
			inString = !inString
		case !inString && strings.HasPrefix(p[i:], more):
			b.WriteString(`"` + more + `":0`)
			i += len(more) - 1
			continue
		}
		b.WriteByte(p[i])
	}
	return b.String()
}

// decode parses exactly one JSON value, numbers as text.
func decode(s string) (any, error) {
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

func compare(path string, want, got any, diffs *[]string) {
	note := func(format string, a ...any) {
		at := path
		if at == "" {
			at = "(whole)"
		}
		*diffs = append(*diffs, at+": "+fmt.Sprintf(format, a...))
	}
	if s, ok := want.(string); ok && s == "$any" {
		return
	}
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			note("want an object, got %s", encode(got))
			return
		}
		for _, k := range sortedKeys(w) {
			if k == more {
				continue
			}
			if v, ok := g[k]; ok {
				compare(path+"."+k, w[k], v, diffs)
			} else {
				note("member %q is missing, want %s", k, encode(w[k]))
			}
		}
		if _, open := w[more]; open {
			return
		}
		for _, k := range sortedKeys(g) {
			if _, ok := w[k]; !ok {
				note("member %q is too much: %s", k, encode(g[k]))
			}
		}
	case []any:
		g, ok := got.([]any)
		if !ok {
			note("want an array, got %s", encode(got))
			return
		}
		if len(w) != len(g) {
			note("want %d elements, got %d: %s", len(w), len(g), encode(got))
			return
		}
		for i := range w {
			compare(fmt.Sprintf("%s[%d]", path, i), w[i], g[i], diffs)
		}
	default:
		if !reflect.DeepEqual(want, got) {
			note("want %s, got %s", encode(want), encode(got))
		}
	}
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// encode writes a decoded value compactly, without HTML escapes.
func encode(v any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Sprint(v)
	}
	return strings.TrimSuffix(b.String(), "\n")
}
