package restest

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"sluice/internal/resmodel"
)

// more is the member that replaces "..." in an object pattern.
const more = "..."

// Match compares JSON with a pattern by structure. Numbers must have the same text. The error lists
// every difference with its path. Text that is not JSON on either side must be equal byte by byte.
func Match(pattern, actual string) error {
	want, errW := resmodel.Decode(expandMore(pattern))
	got, errG := resmodel.Decode(actual)
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
			note("want an object, got %s", resmodel.Encode(got))
			return
		}
		for _, k := range sortedKeys(w) {
			if k == more {
				continue
			}
			if v, ok := g[k]; ok {
				compare(path+"."+k, w[k], v, diffs)
			} else {
				note("member %q is missing, want %s", k, resmodel.Encode(w[k]))
			}
		}
		if _, open := w[more]; open {
			return
		}
		for _, k := range sortedKeys(g) {
			if _, ok := w[k]; !ok {
				note("member %q is unexpected: %s", k, resmodel.Encode(g[k]))
			}
		}
	case []any:
		g, ok := got.([]any)
		if !ok {
			note("want an array, got %s", resmodel.Encode(got))
			return
		}
		if len(w) != len(g) {
			note("want %d elements, got %d: %s", len(w), len(g), resmodel.Encode(got))
			return
		}
		for i := range w {
			compare(fmt.Sprintf("%s[%d]", path, i), w[i], g[i], diffs)
		}
	default:
		if !reflect.DeepEqual(want, got) {
			note("want %s, got %s", resmodel.Encode(want), resmodel.Encode(got))
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
