package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
)

// maxFile bounds the configuration file, in bytes: a file beyond it was named by mistake.
const maxFile = 1 << 20

// maxListed is how many faults of one file are reported.
const maxListed = 20

// place is a position in a file, both numbers counted from 1. The column counts bytes.
type place struct{ line, column int }

func (p place) String() string { return fmt.Sprintf(":%d:%d", p.line, p.column) }

// entry is one key of a configuration file with its value as JSON.
type entry struct {
	key       string
	keyAt, at place
	value     json.RawMessage
}

// fault is what is wrong with a file: an error at a place.
type fault struct {
	at  place
	err error
}

func (f fault) Error() string { return f.at.String() + ": " + f.err.Error() }
func (f fault) Unwrap() error { return f.err }

// isYAML reports whether a file of this name holds YAML. All others hold JSON, as Resgate's do.
func isYAML(path string) bool {
	ext := strings.ToLower(filepath.Ext(path))
	return ext == ".yaml" || ext == ".yml"
}

// entries takes the text of a file apart. Its errors are faults.
func entries(text []byte, yaml bool) ([]entry, error) {
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")) // some editors put a byte order mark before UTF-8
	if isUTF16(text) {
		return nil, fault{place{1, 1}, errors.New("the file is in UTF-16: save it as UTF-8")}
	}
	if yaml {
		return yamlEntries(text)
	}
	return jsonEntries(text)
}

// isUTF16 reports whether a text begins with a byte order mark of UTF-16, or with a character of
// ASCII in UTF-16.
func isUTF16(text []byte) bool {
	return len(text) >= 2 && (text[0] == 0xfe && text[1] == 0xff || text[0] == 0xff && text[1] == 0xfe || text[0] == 0 || text[1] == 0)
}

// readText reads the configuration file. again says that the file was read before, so that a pipe
// has nothing more to say, and might block.
func readText(path string, again bool) ([]byte, error) {
	if err := checkFile(path); err != nil {
		return nil, err
	}
	if again {
		if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() && !info.IsDir() {
			return nil, fmt.Errorf("%s is not a regular file, so it cannot be read again: restart instead", path)
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, advise(path, err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, fmt.Errorf("%s is a directory: name a file in it", path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return nil, advise(path, err)
	case len(text) > maxFile:
		return nil, fmt.Errorf("%s is longer than %d KiB: it is no configuration file", path, maxFile/kib)
	}
	return text, nil
}

// advise adds to an error of the file system what to do about it.
func advise(path string, err error) error {
	reason := err
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		reason = p.Err
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: %w: name a file that exists; \"sluice config\" prints one with the defaults", path, reason)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: %w: let the user that runs Sluice read it", path, reason)
	}
	return fmt.Errorf("%s: %w", path, reason)
}

// jsonEntries takes the text of a JSON file apart. An object may have a key several times.
func jsonEntries(text []byte) ([]entry, error) {
	c := cursor{text: text}
	// The syntax is checked as a whole first: these errors have better positions than those of the
	// decoder that takes the members apart.
	var whole json.RawMessage
	if err := json.Unmarshal(text, &whole); err != nil {
		offset := int64(len(text))
		if s, ok := errors.AsType[*json.SyntaxError](err); ok && !strings.HasPrefix(s.Error(), "unexpected end") {
			offset = s.Offset - 1 // it counts the offending byte
		}
		return nil, fault{c.to(offset), fmt.Errorf("%s%s", withoutCharacter(err.Error()), adviseSyntax(text, offset))}
	}
	if string(bytes.TrimSpace(text)) == "null" {
		return nil, nil // Resgate takes it for a file that sets nothing
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	if open, _ := dec.Token(); open != json.Delim('{') {
		return nil, fault{c.to(0), errors.New(`must be one JSON object, such as {"port": 8080}`)}
	}
	var all []entry
	for dec.More() {
		before := dec.InputOffset()
		token, err := dec.Token()
		if err != nil {
			return nil, fault{c.to(dec.InputOffset()), err}
		}
		e := entry{keyAt: c.to(before + int64(bytes.IndexByte(text[before:], '"')))}
		e.key, _ = token.(string) // an object's keys are strings
		start := dec.InputOffset()
		if err := dec.Decode(&e.value); err != nil {
			return nil, fault{c.to(start), err}
		}
		e.at = c.to(start + int64(bytes.Index(text[start:], e.value)))
		all = append(all, e)
	}
	return all, nil
}

// adviseSyntax completes the error about a text that is not JSON from offset on.
func adviseSyntax(text []byte, offset int64) string {
	before := bytes.TrimRight(text[:offset], " \t\r\n")
	if bytes.HasSuffix(before, []byte(",")) && offset < int64(len(text)) && (text[offset] == '}' || text[offset] == ']') {
		return ": remove the comma before it: JSON has none after the last member"
	}
	return adviseYAML(text)
}

// adviseYAML completes the error about a text that is not JSON but looks like YAML.
func adviseYAML(text []byte) string {
	first, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	if strings.HasPrefix(first, "---") || strings.HasPrefix(first, "#") || yamlKey.MatchString(first) {
		return "; for YAML the name of the file must end in .yaml or .yml"
	}
	return ""
}

// withoutCharacter removes the character from a message about JSON's syntax: it may be one of a
// password.
func withoutCharacter(message string) string {
	if rest, ok := strings.CutPrefix(message, "invalid character "); ok {
		if i := strings.Index(rest, "' "); i >= 0 {
			return "invalid character " + rest[i+2:]
		}
	}
	return message
}

// cursor turns ascending offsets of a text into places, in one pass over the text.
type cursor struct {
	text      []byte
	offset    int
	lines     int // line feeds before offset
	lineStart int
}

// to returns the place of an offset, which is not below that of an earlier call.
func (c *cursor) to(offset int64) place {
	end := max(c.offset, min(int(max(offset, 0)), len(c.text)))
	passed := c.text[c.offset:end]
	c.lines += bytes.Count(passed, []byte("\n"))
	if i := bytes.LastIndexByte(passed, '\n'); i >= 0 {
		c.lineStart = c.offset + i + 1
	}
	c.offset = end
	return place{c.lines + 1, end - c.lineStart + 1}
}

// applied is what applying a file's entries to a Config has found.
type applied struct {
	errs     []error            // values that are wrong: faults
	problems []problem          // keys that are unknown or duplicate, the first maxListed
	further  int                // problems beyond those
	notes    []string           // deprecated keys
	places   map[*setting]place // of the settings in the file, the last ones
	chosen   map[*setting]bool  // settings whose value in the file counts
}

// problem notes a problem, which is made only if it is to be listed.
func (a *applied) problem(of func() problem) {
	if len(a.problems) < maxListed {
		a.problems = append(a.problems, of())
		return
	}
	a.further++
}

// apply applies the entries of a file to c. A setting at its default counts as absent, since a
// written file has them all: the file that "sluice demo -c" wrote must not keep the next demo from
// its own choice. A key that stands there twice counts as it stands there last, as with Resgate.
func apply(c *Config, all []entry) applied {
	out := applied{places: map[*setting]place{}, chosen: map[*setting]bool{}}
	defaults := Config{}.WithDefaults()
	for _, e := range all {
		s, other := settingByKey(e.key)
		if s == nil {
			out.problem(func() problem { return unknownKey(e) })
			continue
		}
		if first, twice := out.places[s]; twice {
			out.problem(func() problem {
				return problem{at: e.keyAt, what: fmt.Sprintf("%s is there already in line %d", s.key, first.line),
					effect: "; the last one counts", advice: "remove one of them"}
			})
		}
		out.places[s] = e.keyAt
		if string(e.value) == "null" {
			if s.has(nullResets) && out.chosen[s] {
				s.reset(c)
			}
			continue
		}
		texts, err := s.fromJSON(e.value)
		if err == nil {
			alone := Config{}
			err = s.set(&alone, texts)
			alone = alone.WithDefaults()
			if err == nil && (out.chosen[s] || !reflect.DeepEqual(s.toJSON(&alone), s.toJSON(&defaults))) {
				out.chosen[s] = true
				err = s.set(c, texts)
				if other != nil && other.deprecated {
					out.notes = append(out.notes, fmt.Sprintf("%v: the key %s is deprecated: write %s", e.keyAt, other.key, s.key))
				}
			}
		}
		if err != nil {
			out.errs = append(out.errs, fault{e.at, s.wrap(err)})
		}
	}
	return out
}

// unknownKey is the problem of a key that no setting has.
func unknownKey(e entry) problem {
	p := problem{at: e.keyAt, what: "unknown key", effect: ", ignored", advice: "remove it"}
	if plain(e.key) {
		p.what += " " + e.key
		if near := nearestKey(e.key); near != "" {
			p.advice = "did you mean " + near + "?"
		}
	}
	return p
}
