package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// yamlKey matches a line that begins a mapping of YAML.
var yamlKey = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]*:(\s|$)`)

// yamlEntries takes the text of a YAML file apart: one mapping of the keys that a JSON file has,
// too. Anchors and aliases are errors, so the text cannot grow when it is read. So are tags, merge
// keys, further documents, and a key that is there twice.
func yamlEntries(text []byte) ([]entry, error) {
	if f := notText(text); f != nil {
		return nil, f
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var document, second yaml.Node
	switch err := dec.Decode(&document); {
	case errors.Is(err, io.EOF):
		return nil, nil // nothing but comments
	case err != nil:
		return nil, yamlFault(err)
	}
	root := document.Content[0]
	if f := plainNode(root); f != nil {
		return nil, f
	}
	switch err := dec.Decode(&second); {
	case err == nil:
		return nil, fault{placeOf(&second), errors.New("a second document begins here: remove it")}
	case !errors.Is(err, io.EOF):
		return nil, yamlFault(err)
	}
	if root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null" {
		return nil, nil
	}
	if root.Kind != yaml.MappingNode {
		return nil, fault{placeOf(root), errors.New("must be keys with values, such as port: 8080")}
	}
	var all []entry
	lines := map[string]int{}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		if key.Kind != yaml.ScalarNode || key.ShortTag() == "!!merge" {
			return nil, fault{placeOf(key), errors.New("a key must be the name of a setting")}
		}
		if first := lines[key.Value]; first > 0 {
			what := "this key"
			if plain(key.Value) {
				what = key.Value
			}
			return nil, fault{placeOf(key), fmt.Errorf("%s is there already in line %d: remove one of them", what, first)}
		}
		lines[key.Value] = key.Line
		all = append(all, entry{key: key.Value, keyAt: placeOf(key), at: placeOf(value), value: asJSON(value)})
	}
	return all, nil
}

func placeOf(n *yaml.Node) place { return place{n.Line, n.Column} }

// plainNode returns the first node of a tree that uses what a configuration file may not have.
func plainNode(n *yaml.Node) error {
	switch {
	case n.Kind == yaml.AliasNode, n.Anchor != "":
		return fault{placeOf(n), errors.New("anchors and aliases (& and *) are not supported: write the value itself; a text that begins so needs quotes")}
	case n.Style&yaml.TaggedStyle != 0:
		return fault{placeOf(n), errors.New("tags (!) are not supported: remove it; a text that begins so needs quotes")}
	}
	for _, c := range n.Content {
		if err := plainNode(c); err != nil {
			return err
		}
	}
	return nil
}

// asJSON returns a node's value as JSON. Lists are at most one deep and settings have no members,
// so what lies deeper only needs to be of the wrong type.
func asJSON(n *yaml.Node) json.RawMessage {
	switch n.Kind {
	case yaml.SequenceNode:
		parts := make([][]byte, len(n.Content))
		for i, c := range n.Content {
			parts[i] = []byte("{}")
			if c.Kind == yaml.ScalarNode {
				parts[i] = asJSON(c)
			}
		}
		return slicesToArray(parts)
	case yaml.ScalarNode:
		return scalarJSON(n)
	}
	return json.RawMessage("{}")
}

func slicesToArray(parts [][]byte) json.RawMessage {
	return append(append([]byte{'['}, bytes.Join(parts, []byte{','})...), ']')
}

func scalarJSON(n *yaml.Node) json.RawMessage {
	switch n.ShortTag() {
	case "!!null":
		return json.RawMessage("null")
	case "!!bool":
		var v bool
		if n.Decode(&v) == nil {
			return strconv.AppendBool(nil, v)
		}
	case "!!int":
		var v int64
		if n.Decode(&v) == nil {
			return strconv.AppendInt(nil, v, 10)
		}
		return json.RawMessage("1e400") // beyond every bound
	case "!!float":
		var v float64
		if n.Decode(&v) == nil && !math.IsInf(v, 0) && !math.IsNaN(v) {
			return strconv.AppendFloat(nil, v, 'g', -1, 64)
		}
	}
	return jsonOf(n.Value)
}

// notText returns the fault of a text that is not UTF-8, or has control characters; nil if there is
// none. The parser would not say where they are.
func notText(text []byte) error {
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		at := cursor{text: text}
		switch {
		case r == utf8.RuneError && size == 1:
			return fault{at.to(int64(i)), errors.New("the file is not in UTF-8: save it as UTF-8")}
		case r < ' ' && r != '\t' && r != '\n' && r != '\r', r == 0x7f:
			return fault{at.to(int64(i)), errors.New("control characters are not allowed: remove it")}
		}
		i += size
	}
	return nil
}

var (
	yamlError = regexp.MustCompile(`^yaml: (?:line ([0-9]+): )?(.*)$`)
	// lineBefore matches the errors in which the library counts lines from 0.
	lineBefore = regexp.MustCompile(`^(did not find expected (<|node content|key$|',' or|'-' indicator)|found undefined tag handle)`)
	anchorName = regexp.MustCompile(`anchor '.*'`)
)

// yamlFault turns an error about YAML's syntax into a fault. It quotes nothing of the file.
func yamlFault(err error) fault {
	f := fault{at: place{1, 1}, err: errors.New("the file is not YAML")}
	m := yamlError.FindStringSubmatch(err.Error())
	if m == nil {
		return f
	}
	message := anchorName.ReplaceAllString(m[2], "anchor")
	if n, err := strconv.Atoi(m[1]); err == nil {
		f.at.line = n
		if lineBefore.MatchString(message) {
			f.at.line++
		}
	}
	switch {
	case strings.Contains(message, "anchor"):
		message += ": a text that begins with * or & needs quotes"
	case strings.Contains(message, "cannot start any token"):
		message += ": a text that begins with a character such as @, ` or % needs quotes"
	case strings.Contains(message, "mapping values are not allowed"):
		message += ": keys are not nested; begin each at the start of a line, and quote a text with a colon and a space"
	case strings.Contains(message, "tab character"):
		message += ": begin each key at the start of its line"
	}
	f.err = errors.New(message)
	return f
}
