package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// Schema returns the JSON Schema of the configuration file, in JSON or YAML (draft 2020-12). The
// member x-reload marks what a reload applies to a running gateway. The schema is
// stricter than the reader in one point, case: keys and names are those of the documentation. It
// cannot have the bounds of a duration with a unit.
func Schema() []byte {
	properties := newOrdered()
	defaults := Config{}.WithDefaults()
	for i := range settings {
		s := &settings[i]
		row := s.schema()
		row["description"] = s.description()
		row["default"] = s.toJSON(&defaults)
		if s.has(reloadable) {
			row["x-reload"] = true
		}
		properties.set(s.key, row)
		for _, a := range s.aliases {
			other := s.schema()
			other["description"] = "Another key of " + s.key + "."
			if a.deprecated {
				other["deprecated"] = true
			}
			properties.set(a.key, other)
		}
	}
	whole := newOrdered()
	whole.set("$schema", "https://json-schema.org/draft/2020-12/schema")
	whole.set("title", "Sluice configuration")
	whole.set("type", []string{"object", "null"})
	whole.set("additionalProperties", false)
	whole.set("properties", properties)
	var b bytes.Buffer
	_ = json.Indent(&b, whole.encode(), "", "  ") // what encode returns is valid
	b.WriteByte('\n')
	return b.Bytes()
}

// description is a setting's help in sentences, with what the documentation adds.
func (s *setting) description() string {
	text := upperFirst(s.help) + "."
	if s.more != "" {
		text += " " + s.more
	}
	return text
}

func upperFirst(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// ordered is a JSON object whose members keep their order.
type ordered struct {
	keys   []string
	values map[string]any
}

func newOrdered() *ordered { return &ordered{values: map[string]any{}} }

func (o *ordered) set(key string, value any) {
	o.keys = append(o.keys, key)
	o.values[key] = value
}

// encode returns the object as JSON. Its values are text, numbers, lists and maps, which always
// have a JSON form.
func (o *ordered) encode() []byte {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, key := range o.keys {
		if i > 0 {
			b.WriteByte(',')
		}
		value := o.values[key]
		if inner, ok := value.(*ordered); ok {
			value = json.RawMessage(inner.encode())
		}
		fmt.Fprintf(&b, "%s:%s", jsonOf(key), jsonOf(value))
	}
	b.WriteByte('}')
	return b.Bytes()
}

// jsonOf returns v as JSON that keeps <, > and & as they are. v must have a JSON form.
func jsonOf(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err)
	}
	return bytes.TrimSpace(b.Bytes())
}

// zeroBelow reports whether a user may write zero although it is below the lower bound.
func (t *typed[T]) zeroBelow() bool { return t.span.low > 0 && !t.span.noLow && t.err == nil }

// bounds implements value.
func (t *typed[T]) bounds() string {
	words := ""
	switch {
	case t.as == onOff:
		return "true, false"
	case t.as == several:
		return "list of texts"
	case len(t.choices) > 0:
		return strings.Join(t.choices, ", ")
	case t.as == ofText:
		return "text"
	case t.span.noHigh:
		words = "from " + t.span.text(t.span.low)
	default:
		words = t.span.text(t.span.low) + " to " + t.span.text(t.span.high)
	}
	if t.zeroBelow() {
		return "0, " + words
	}
	return words
}

// durationPattern is a bare number, or a duration as time.ParseDuration reads it.
const durationPattern = `^([0-9]+|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h))+)$`

// schema implements value. A null sets nothing, so every setting may be null.
func (t *typed[T]) schema() map[string]any {
	row := map[string]any{}
	switch t.as {
	case onOff:
		row["type"] = []string{"boolean", "null"}
	case several:
		row["type"] = []string{"array", "null"}
		row["items"] = map[string]any{"type": "string"}
	case ofNumber:
		row["type"] = []string{"integer", "null"}
		t.limit(row)
	case ofDuration:
		row["type"] = []string{"integer", "string", "null"}
		row["pattern"] = durationPattern
		t.limit(row)
	case ofText:
		row["type"] = []string{"string", "null"}
		if len(t.choices) > 0 {
			all := []any{nil}
			if t.err == nil {
				all = append(all, "") // the default
			}
			for _, v := range t.choices {
				all = append(all, v)
			}
			row["enum"] = all
		}
		if t.err != nil {
			row["minLength"] = 1
		}
	}
	return row
}

// limit adds the bounds of a number, which in a schema concern numbers only.
func (t *typed[T]) limit(row map[string]any) {
	if !t.span.noLow {
		row["minimum"] = t.span.low
	}
	if !t.span.noHigh {
		row["maximum"] = t.span.high
	}
	if t.zeroBelow() {
		delete(row, "minimum")
		row["anyOf"] = []any{map[string]any{"minimum": t.span.low}, map[string]any{"const": 0}, map[string]any{"not": map[string]any{"type": "integer"}}}
	}
}
