package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"strings"
)

// readFile applies the settings of a JSON file to c and returns the keys it
// does not know, which are the user's to remove. A file that is missing is
// created with the defaults; created says so. Errors name the file, and the
// line and column where that makes sense.
func readFile(c *Config, path string) (unknown []string, created bool, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, true, writeDefaults(path)
	}
	if err != nil {
		return nil, false, fmt.Errorf("config file: %w", err)
	}
	unknown, err = decodeFile(c, text)
	if err != nil {
		err = fmt.Errorf("config file %s%w", path, err)
	}
	return unknown, false, err
}

// writeDefaults creates the file at path. It is readable by its owner only,
// because users go on to put credentials into it.
func writeDefaults(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("config file is missing and cannot be written: %w", err)
	}
	_, err = f.Write(encodeFile(Config{}))
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("config file: %w", err)
	}
	return nil
}

// encodeFile returns c, defaults filled in, as a configuration file: one
// setting per line in the order of the table.
func encodeFile(c Config) []byte {
	c = c.WithDefaults()
	var b bytes.Buffer
	b.WriteString("{")
	for i := range settings {
		if i > 0 {
			b.WriteByte(',')
		}
		value, err := json.Marshal(settings[i].toJSON(&c))
		if err != nil {
			panic(err) // strings, numbers and booleans always have a JSON form
		}
		fmt.Fprintf(&b, "\n\t%q: %s", settings[i].key, value)
	}
	b.WriteString("\n}\n")
	return b.Bytes()
}

// decodeFile reads text into c. Keys are compared without regard to case, as
// Resgate does. A setting at its default counts as left out, since a written
// file names them all: the file that "sluice demo -c" wrote must not keep the
// next demo from choosing for itself. Its errors begin with ":line:column: " of
// the fault.
func decodeFile(c *Config, text []byte) (unknown []string, err error) {
	at := func(offset int64, err error) error {
		line, column := position(text, offset)
		return fmt.Errorf(":%d:%d: %w", line, column, err)
	}
	// The syntax is checked as a whole first; its errors know their place
	// better than those of the decoder that takes the members apart.
	var whole json.RawMessage
	if err := json.Unmarshal(text, &whole); err != nil {
		offset := int64(len(text))
		if s, ok := errors.AsType[*json.SyntaxError](err); ok && !strings.HasPrefix(s.Error(), "unexpected end") {
			offset = s.Offset - 1 // it counts the offending byte
		}
		return nil, at(offset, err)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	if open, _ := dec.Token(); open != json.Delim('{') {
		return nil, at(0, errors.New(`must be one JSON object, such as {"port": 8080}`))
	}
	defaults := Config{}.WithDefaults()
	chosen := map[*setting]bool{} // a key that comes twice counts as it came last
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, at(dec.InputOffset(), err)
		}
		key, _ := token.(string) // nothing else can stand here
		start := dec.InputOffset()
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, at(start, err)
		}
		s := settingByKey(key)
		if s == nil {
			unknown = append(unknown, key)
			continue
		}
		if string(raw) == "null" {
			continue
		}
		texts, err := s.fromJSON(raw)
		if err == nil {
			alone := Config{}
			err = s.set(&alone, texts)
			alone = alone.WithDefaults()
			if err == nil && (chosen[s] || !reflect.DeepEqual(s.toJSON(&alone), s.toJSON(&defaults))) {
				chosen[s] = true
				err = s.set(c, texts)
			}
		}
		if err != nil {
			start += int64(bytes.Index(text[start:], raw))
			return nil, at(start, s.wrap(err))
		}
	}
	return unknown, nil
}

func settingByKey(key string) *setting {
	for i := range settings {
		if strings.EqualFold(settings[i].key, key) {
			return &settings[i]
		}
		for _, a := range settings[i].aliases {
			if strings.EqualFold(a, key) {
				return &settings[i]
			}
		}
	}
	return nil
}

// position turns an offset into a line and a column, both counted from 1.
func position(text []byte, offset int64) (line, column int) {
	before := text[:min(max(offset, 0), int64(len(text)))]
	line = 1 + bytes.Count(before, []byte("\n"))
	column = len(before) - bytes.LastIndexByte(before, '\n')
	return line, column
}
